"""Libraries that stand beside Platewise in a benchmark: each one a function from two tables to predictions.

A peer runs at the settings its own documentation recommends; where the documentation leaves the rank open,
at the rank asked for. Seconds are those of its own training call: reading the file, looking up ids in
advance where the library wants codes, and predicting are not counted.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix


@dataclass(frozen=True)
class PeerResult:
    """What a peer predicts for the test entries, and what it took.

    Attributes:
        mean: (n_test,) predicted rating of each test entry, or None where the library predicts no ratings.
        sd: (n_test,) predictive standard deviation, or None where the library offers none.
        seconds: wall-clock seconds of training.
        passes: passes over the training entries.
        options: the settings used, in words.
    """

    mean: np.ndarray | None
    sd: np.ndarray | None
    seconds: float
    passes: float
    options: str


@dataclass(frozen=True)
class Peer:
    """A peer: what to install, the module it holds, its function of (train, test, rank, seed, passes), usual passes."""

    package: str
    module: str
    fit_and_predict: Callable[[pd.DataFrame, pd.DataFrame, int, int, int], PeerResult]
    passes: int

    def version(self) -> str:
        """Installed version, as `package x.y.z`."""
        return f"{self.package} {version(self.package)}"


@dataclass(frozen=True)
class Codes:
    """Users and items of both tables as integers; those without a training entry share one last code."""

    train_user: np.ndarray
    train_item: np.ndarray
    test_user: np.ndarray
    test_item: np.ndarray
    n_users: int
    n_items: int


def encode(train: pd.DataFrame, test: pd.DataFrame) -> Codes:
    """Number the users and the items in order of appearance in `train`."""
    train_user, users = pd.factorize(train["user"])
    train_item, items = pd.factorize(train["item"])
    test_user = pd.Index(users).get_indexer(test["user"])
    test_item = pd.Index(items).get_indexer(test["item"])
    return Codes(
        train_user,
        train_item,
        np.where(test_user < 0, len(users), test_user),
        np.where(test_item < 0, len(items), test_item),
        len(users) + 1,
        len(items) + 1,
    )


def cmfrec_als(train: pd.DataFrame, test: pd.DataFrame, rank: int, seed: int, passes: int) -> PeerResult:
    """Alternating least squares, exact Cholesky steps, biases; regularisation at its default of 10."""
    from cmfrec import CMF

    columns = {"user": "UserId", "item": "ItemId", "rating": "Rating"}
    model = CMF(k=rank, niter=passes, use_cg=False, random_state=seed, nthreads=2, verbose=False)
    began = time.perf_counter()
    model.fit(train.rename(columns=columns))
    seconds = time.perf_counter() - began
    mean = np.asarray(model.predict(test["user"], test["item"]), dtype=np.float64)
    return PeerResult(mean, None, seconds, passes, f"rank {rank}, {passes} iterations, lambda 10, biases, 2 threads")


def surprise_svd(train: pd.DataFrame, test: pd.DataFrame, rank: int, seed: int, passes: int) -> PeerResult:
    """Stochastic gradient descent with biases: `SVD` at its default rates."""
    from surprise import SVD, Dataset, Reader

    scale = (train["rating"].min(), train["rating"].max())
    table = Dataset.load_from_df(train[["user", "item", "rating"]], Reader(rating_scale=scale))
    data = table.build_full_trainset()
    model = SVD(n_factors=rank, n_epochs=passes, random_state=seed)
    began = time.perf_counter()
    model.fit(data)
    seconds = time.perf_counter() - began
    entries = zip(test["user"], test["item"], strict=True)
    mean = np.array([model.predict(user, item).est for user, item in entries])
    return PeerResult(mean, None, seconds, passes, f"rank {rank}, {passes} epochs, other options at default, 1 thread")


def one_hot(user: np.ndarray, item: np.ndarray, n_users: int, n_items: int) -> csr_matrix:
    """Design matrix (n_entries, n_users + n_items) with one 1 for the user and one for the item."""
    n_entries = len(user)
    columns = np.stack([user, item + n_users], axis=1).reshape(-1)
    pointers = np.arange(0, 2 * n_entries + 1, 2)
    return csr_matrix((np.ones(2 * n_entries), columns, pointers), shape=(n_entries, n_users + n_items))


def fit_myfm(model: object, n_iter: int, train: pd.DataFrame, test: pd.DataFrame) -> tuple[np.ndarray, float]:
    """Fit either of myFM's regressors on one-hot users and items; predictions and seconds."""
    codes = encode(train, test)
    shape = (codes.n_users, codes.n_items)
    features = one_hot(codes.train_user, codes.train_item, *shape)
    rating = train["rating"].to_numpy(np.float64)
    began = time.perf_counter()
    model.fit(features, rating, n_iter=n_iter, group_shapes=list(shape))
    seconds = time.perf_counter() - began
    return model.predict(one_hot(codes.test_user, codes.test_item, *shape)), seconds


def myfm_variational(train: pd.DataFrame, test: pd.DataFrame, rank: int, seed: int, passes: int) -> PeerResult:
    """Factorisation machine by fully factorised variational inference."""
    from myfm import VariationalFMRegressor

    mean, seconds = fit_myfm(VariationalFMRegressor(rank=rank, random_seed=seed), passes, train, test)
    return PeerResult(mean, None, seconds, passes, f"rank {rank}, {passes} iterations, grouped by user and item")


def myfm_gibbs(train: pd.DataFrame, test: pd.DataFrame, rank: int, seed: int, passes: int) -> PeerResult:
    """Factorisation machine by Gibbs sampling, its own choice of samples kept."""
    from myfm import MyFMGibbsRegressor

    mean, seconds = fit_myfm(MyFMGibbsRegressor(rank=rank, random_seed=seed), passes, train, test)
    return PeerResult(mean, None, seconds, passes, f"rank {rank}, {passes} iterations, grouped by user and item")


def lenskit_als(train: pd.DataFrame, test: pd.DataFrame, rank: int, seed: int, passes: int) -> PeerResult:
    """Biased matrix factorisation by alternating least squares, in the pipeline its documentation builds."""
    from lenskit.als import BiasedMFScorer
    from lenskit.batch import predict
    from lenskit.data import from_interactions_df
    from lenskit.pipeline import predict_pipeline
    from lenskit.training import TrainingOptions

    names = {"user": "user_id", "item": "item_id"}
    data = from_interactions_df(train.rename(columns=names))
    scorer = BiasedMFScorer(embedding_size=rank, epochs=passes)
    pipeline = predict_pipeline(scorer)
    began = time.perf_counter()
    pipeline.train(data, TrainingOptions(rng=seed))
    seconds = time.perf_counter() - began
    wanted = test[["user", "item"]].rename(columns=names)
    scores = predict(pipeline, wanted, n_jobs=1).to_df().set_index([*names.values()])["score"]
    mean = scores.reindex(pd.MultiIndex.from_frame(wanted)).to_numpy(np.float64)
    return PeerResult(mean, None, seconds, passes, f"rank {rank}, {passes} epochs, other options at default, 2 threads")


def implicit_als(train: pd.DataFrame, test: pd.DataFrame, rank: int, seed: int, passes: int) -> PeerResult:
    """Alternating least squares on the same matrix for its speed alone: the model is of implicit feedback."""
    from implicit.als import AlternatingLeastSquares
    from threadpoolctl import threadpool_limits

    codes = encode(train, test)
    entries = (train["rating"].to_numpy(np.float32), (codes.train_user, codes.train_item))
    matrix = csr_matrix(entries, shape=(codes.n_users, codes.n_items))
    model = AlternatingLeastSquares(factors=rank, iterations=passes, random_state=seed, num_threads=2, use_gpu=False)
    with threadpool_limits(1, "blas"):  # as its documentation asks: it has threads of its own
        began = time.perf_counter()
        model.fit(matrix, show_progress=False)
        seconds = time.perf_counter() - began
    settings = f"rank {rank}, {passes} iterations, other options at default, 2 threads"
    return PeerResult(None, None, seconds, passes, f"{settings}; fits implicit feedback: no RMSE")


def plain_pyro(train: pd.DataFrame, test: pd.DataFrame, rank: int, seed: int, passes: int) -> PeerResult:
    """The same model as a Pyro tutorial would write and fit it (see `peer_pyro`), for 64 seconds whatever `passes`."""
    from peer_pyro import fit_within, predict

    codes = encode(train, test)
    fit = fit_within(64.0, codes, train["rating"].to_numpy(np.float32), rank, seed)
    mean, sd = predict(fit, codes)
    options = f"rank {rank}, {fit.steps} steps of {fit.batch:,} ratings, Adam {fit.rate}, 64 s allowed"
    return PeerResult(mean, sd, fit.seconds, fit.passes, options)


PEERS: dict[str, Peer] = {
    "cmfrec": Peer("cmfrec", "cmfrec", cmfrec_als, 15),
    "myfm": Peer("myfm", "myfm", myfm_variational, 30),
    "myfm-gibbs": Peer("myfm", "myfm", myfm_gibbs, 60),
    "surprise": Peer("scikit-surprise", "surprise", surprise_svd, 20),
    "lenskit": Peer("lenskit", "lenskit", lenskit_als, 10),
    "implicit": Peer("implicit", "implicit", implicit_als, 15),
    "pyro": Peer("pyro-ppl", "pyro", plain_pyro, 0),
}
