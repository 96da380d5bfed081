"""k-hat by block: constant weights where the guide is the conditional, above 0.7 where not, and what is left out."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from platewise.data import RowBatch, make_ratings
from platewise.data.errors import PlatewiseError
from platewise.data.simulate import simulate_ratings
from platewise.guides import AmortizedNormal, FullNormal, MeanFieldNormal, RowBlockNormal
from platewise.inference import Fitted, coordinate_ascent, natural_gradient, svi
from platewise.models import VAE, LatentFactor
from platewise.posterior.conditional_weights import Conditionals
from platewise.posterior.k_hat import k_hats
from platewise.posterior.reader import reading
from platewise.posterior.weights_by_block import (
    weights_of_columns,
    weights_of_globals,
    weights_of_pairs,
    weights_of_rows,
)
from torch import nn

from ..count_data import small_counts
from ..inference.conjugate import NOISE, PRIOR, Lines, exact_posterior, lines_data

OPTIONS = {"device": "cpu", "progress": False, "dtype": torch.float64}
SCALES = {"sigma": 0.5, "user_scale": 0.5, "item_scale": 0.5}
FEW = {"rows": 30, "draws": 400}


class Exact(nn.Module):
    """The exact posterior of lines, one run at a time: it takes no plate of particles; `width` times as wide."""

    def __init__(self, model: Lines, width: float = 1.0) -> None:
        super().__init__()
        self.model, self.width = [model], width
        self.anchor = nn.Parameter(torch.zeros(()))

    def forward(self, batch: RowBatch) -> None:
        mean, root = exact_posterior(self.model[0], batch)
        with batch.row_plate("lines"):
            pyro.sample("theta", dist.MultivariateNormal(mean + 0 * self.anchor, scale_tril=self.width * root))


def exact_fit(width: float = 1.0) -> Fitted:
    x = lines_data(30)
    data = make_ratings(x.astype(np.float32), np.arange(30), np.arange(5))
    model = Lines(5)
    fitted = svi.fit(model, Exact(model), data, epochs=1, **OPTIONS)
    fitted.guide.width = width
    return fitted


def weights(fitted: Fitted, of, *given, draws: int = 200) -> np.ndarray:
    with reading(fitted, 0, None, fitted.data) as reader:
        return of(Conditionals(reader, draws, reader.batch(np.arange(5))), *given)


def test_weights_of_the_exact_posterior_are_the_evidence() -> None:
    fitted = exact_fit()
    found = weights(fitted, weights_of_rows, np.arange(30), draws=5)
    batch = RowBatch(*(torch.from_numpy(x) for x in csr(fitted)), 30, 5)
    evidence = [
        dist.MultivariateNormal(torch.zeros(n), cov).log_prob(y) if n else 0.0 for n, cov, y in marginals(batch)
    ]
    np.testing.assert_allclose(found, np.tile(evidence, (5, 1)), atol=1e-6)


def csr(fitted: Fitted) -> tuple[np.ndarray, ...]:
    x = fitted.data.X
    return np.arange(x.shape[0]), x.indptr.astype(np.int64), x.indices.astype(np.int64), x.data.astype(np.float64)


def marginals(batch: RowBatch):
    for i in range(len(batch.rows)):
        f, y = Lines(5).features[batch.col[batch.row == i]], batch.value[batch.row == i]
        yield len(y), f @ torch.diag(PRIOR**2) @ f.mT + NOISE**2 * torch.eye(len(y)), y


def test_a_guide_that_is_the_conditional_passes_and_a_narrow_one_fails() -> None:
    passes, fails = (k_hats(exact_fit(width), None, rows=20, draws=300)["k_hat"] for width in (1.0, 0.2))
    assert (passes < 0.3).all()
    assert fails.median() > 0.7


@pytest.fixture(scope="module")
def ratings():
    return simulate_ratings(LatentFactor(2, **SCALES), 120, 60, 2400, given={"mu": 3.5}, seed=1)[0]


@pytest.fixture(scope="module")
def fits(ratings):
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield {
        guide: coordinate_ascent.fit(LatentFactor(2, **SCALES), guide(), ratings, tolerance=1e-6, **OPTIONS)
        for guide in (RowBlockNormal, MeanFieldNormal)
    }
    torch.set_default_dtype(before)


def with_blocks(fitted: Fitted, change) -> Fitted:
    """The fit with the covariances of all blocks changed."""
    guide = RowBlockNormal()
    guide.setup(fitted.model, RowBatch.blank(fitted.n_rows, fitted.n_cols).to("cpu", torch.float64))
    for site in ("mu", "user", "item"):
        guide.set_blocks(site, *change(site, *fitted.guide.blocks(site)))
    return replace(fitted, guide=guide)


def test_weights_of_exact_updates_given_the_rest_are_constant(fits) -> None:
    """With the rest all but fixed, coordinate ascent's last update of a block is its conditional."""
    tiny = {name: lambda site, mean, cov, name=name: (mean, cov * (1 if site == name else 1e-16)) for name in FIXED}
    for name, (of, given) in FIXED.items():
        fixed = with_blocks(fits[RowBlockNormal], tiny[name])
        exact = with_blocks(fixed, lambda site, mean, cov, name=name, fixed=fixed: update(fixed, site, name))
        spread = weights(exact, of, *given).std(0)
        assert spread.max() < 1e-4, name


FIXED = {
    "user": (weights_of_rows, (np.arange(20),)),
    "item": (weights_of_columns, (np.array([3, 0, 17]),)),
    "mu": (weights_of_globals, (np.arange(120), 100)),
}


def update(fitted: Fitted, site: str, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The conditional of a block given the means of the others, and these as they are."""
    mean, cov = fitted.guide.blocks(site)
    if site != name:
        return mean, cov
    x = fitted.data.X.tocoo()
    row, col, y = torch.from_numpy(x.row).long(), torch.from_numpy(x.col).long(), torch.from_numpy(x.data).double()
    (mu, _), (user, _), (item, _) = (fitted.guide.blocks(s) for s in ("mu", "user", "item"))
    u, v = user[row], item[col]
    if name == "mu":
        rest = y - u[:, -1] - v[:, -1] - (u[:, :-1] * v[:, :-1]).sum(1)
        precision = len(y) / 0.25 + 1 / 100**2
        return (rest.sum() / 0.25 / precision).reshape(1, 1), torch.full((1, 1), 1 / precision)
    other, index = (v, row) if name == "user" else (u, col)
    design = torch.cat([other[:, :-1], torch.ones(len(y), 1)], 1)
    target = y - mu.flatten() - other[:, -1]
    n, d = mean.shape
    gram = torch.zeros(n, d, d).index_add(0, index, design[:, :, None] * design[:, None] / 0.25) + torch.eye(d) / 0.25
    pull = torch.zeros(n, d).index_add(0, index, design * target[:, None] / 0.25)
    return torch.linalg.solve(gram, pull), torch.linalg.inv(gram)


def test_a_pair_counts_each_density_once(fits) -> None:
    """A row that is exact given its column, and a column so narrow that its own density alone tells draws apart."""
    fixed = with_blocks(fits[RowBlockNormal], lambda site, mean, cov: (mean, cov * (1 if site == "user" else 1e-16)))
    exact = with_blocks(fixed, lambda site, mean, cov: update(fixed, site, "user"))
    col = int(exact.data.X[4].indices[0])
    found = weights(exact, weights_of_pairs, np.array([4]), np.array([col]), draws=2000)
    assert (found - found.min()).mean() == pytest.approx(1.5, rel=0.1)  # half of a chi-squared of 3 dimensions
    assert found.std() == pytest.approx(1.5**0.5, rel=0.1)


def test_good_blocks_pass_and_narrow_ones_fail(fits) -> None:
    good, bad = (k_hats(f, None, **FEW) for f in (fits[RowBlockNormal], with_blocks(fits[RowBlockNormal], narrow)))
    for what in ("row", "column", "functional"):
        assert good.loc[good["what"] == what, "k_hat"].median() < 0.5
        assert bad.loc[bad["what"] == what, "k_hat"].median() > 0.7
    assert float(bad.loc[bad["what"] == "global", "k_hat"].iloc[0]) > 0.7


def narrow(site: str, mean: torch.Tensor, cov: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return mean, 0.04 * cov


def test_strongly_correlated_rows_fail_under_a_factorised_guide() -> None:
    """Lines whose columns are all at one end: level and slope cannot be told apart."""
    model = Lines(5)
    model.features[:, 1] = 1.0
    model.features = nn.Buffer(model.features * 10)
    data = make_ratings(lines_data(30).astype(np.float32), np.arange(30), np.arange(5))
    fitted = svi.fit(model, MeanFieldNormal(), data, epochs=200, batch_rows=30, **OPTIONS)
    assert k_hats(fitted, data, rows=20, draws=500)["k_hat"].median() > 0.7


def test_the_table_says_what_it_holds(fits, ratings) -> None:
    table = k_hats(fits[RowBlockNormal], ratings, rows=25, draws=100)
    assert list(table.columns) == ["what", "name", "decile", "k_hat", "threshold", "draws"]
    assert table["what"].value_counts().to_dict() == {"row": 25, "column": 25, "global": 1, "functional": 10}
    rows = table[table["what"] == "row"].merge(fits[RowBlockNormal].obs, left_on="name", right_index=True)
    assert rows["decile"].value_counts().sort_index().tolist() == [3] * 5 + [2] * 5
    assert rows.groupby("decile")["n_entries"].mean().is_monotonic_increasing
    assert table.loc[table["what"] == "global", "decile"].isna().all()
    assert (table["threshold"] == 0.5).all()
    for name in table.loc[table["what"] == "functional", "name"]:
        row, col = name.split(", ")
        assert ratings[row, col].X.nnz == 1


def test_one_seed_gives_one_table_and_leaves_the_fit_as_it_is(fits, ratings) -> None:
    fitted = fits[RowBlockNormal]
    before = {name: x.clone() for name, x in fitted.guide.state_dict().items()}
    one, two, other = (k_hats(fitted, ratings, rows=10, draws=100, seed=seed) for seed in (3, 3, 4))
    pd.testing.assert_frame_equal(one, two)
    assert not one["k_hat"].equals(other["k_hat"])
    assert all(torch.equal(x, before[name]) for name, x in fitted.guide.state_dict().items())


def test_a_guide_without_a_table_of_rows(ratings) -> None:
    fitted = natural_gradient.fit(LatentFactor(2), RowBlockNormal(hold_rows=False), ratings, **OPTIONS)
    table = k_hats(fitted, ratings, rows=10, draws=100)
    assert table.loc[table["what"] == "row", "k_hat"].median() < 0.5


def test_cells_by_an_encoder_have_rows_alone() -> None:
    cells = small_counts()
    fitted = svi.fit(VAE(2, hidden=8), AmortizedNormal(hidden=8), cells, epochs=5, validation=0.2, **OPTIONS)
    table = k_hats(fitted, cells, rows=200, draws=100)
    held_out = fitted.obs.index[fitted.obs["held_out"]]
    assert set(table["what"]) == {"row"}
    assert set(table["name"]) == set(fitted.obs.index) - set(held_out)


def test_what_there_is_no_density_of_is_left_out_and_said() -> None:
    cells = small_counts()
    cells.X.data[:] = np.log1p(cells.X.data)
    model = LatentFactor(2, unstored="zero")
    whole = k_hats(coordinate_ascent.fit(model, RowBlockNormal(), cells, **OPTIONS), cells, rows=10, draws=100)
    assert set(whole["what"]) == {"row", "global"}
    assert len(whole.attrs["left_out"]) == 2
    x = make_ratings(lines_data(20).astype(np.float32), np.arange(20), np.arange(5))
    joint = svi.fit(LatentFactor(2), FullNormal(sites=["mu", "item"]), x, epochs=3, **OPTIONS)
    table = k_hats(joint, x, rows=10, draws=100)
    assert set(table["what"]) == {"row"}
    assert any("globals" in line for line in table.attrs["left_out"])


@pytest.mark.parametrize(
    ("given", "message"),
    [({"rows": 0}, "at least 1 row"), ({"draws": 50}, "100 draws"), ({"seed": -1}, "seed of at least 0")],
)
def test_misuse_gets_one_line(fits, ratings, given, message: str) -> None:
    with pytest.raises(PlatewiseError, match=message):
        k_hats(fits[RowBlockNormal], ratings, **given)


def test_other_data_are_refused(fits, ratings) -> None:
    with pytest.raises(PlatewiseError, match="fingerprints differ"):
        k_hats(fits[RowBlockNormal], ratings[:50].copy())
    with pytest.raises(PlatewiseError, match="training data"):
        k_hats(replace(fits[RowBlockNormal], data=None), None)
