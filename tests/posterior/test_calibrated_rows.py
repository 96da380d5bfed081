"""Rows of counts judged half by half: calibrated where all is as the truth, and not where something is off."""

import anndata as ad
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import scipy.sparse as sp
import torch
from platewise.data import mark
from platewise.data.errors import PlatewiseError
from platewise.guides import AmortizedNormal
from platewise.inference import svi
from platewise.models import VAE
from platewise.posterior import calibrated_rows
from platewise.posterior.calibration import calibration
from torch import nn

from ..count_data import small_counts

OPTIONS = {"epochs": 1, "batch_rows": 60, "device": "cpu", "progress": False, "dtype": torch.float64}
N_CELLS, N_GENES, LOG_THETA = 400, 40, 0.7


class OnAGrid(nn.Module):
    """The posterior of one latent, from its moments on a grid."""

    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.model, self.grid = model, torch.linspace(-4, 4, 81, dtype=torch.float64)
        self.known = None, None, None

    def moments(self, batch):
        """Mean and standard deviation, worked out once a batch."""
        if self.known[0] is not batch:
            self.known = batch, *self._moments(batch)
        return self.known[1:]

    def _moments(self, batch):
        z = self.grid[:, None, None].expand(-1, len(batch.rows), 1)
        log_p = self.model.likelihood(batch, z).log_prob(batch.value) - z[..., 0] ** 2 / 2
        p = log_p.softmax(0)
        loc = (p * z[..., 0]).sum(0)
        return loc, (p * (z[..., 0] - loc) ** 2).sum(0).sqrt()

    def forward(self, batch):
        loc, scale = self.moments(batch)
        with batch.row_plate("cells"):
            pyro.sample("z", dist.Normal(loc[:, None], scale[:, None]).to_event(1))


def simulated(weight, intercept, n, rng):
    """Cells of about 600 counts, from one latent each and a linear decoder."""
    f = rng.normal(size=(n, 1)) * weight + intercept
    mean = rng.integers(400, 800, (n, 1)) * np.exp(f) / np.exp(f).sum(1, keepdims=True)
    counts = rng.poisson(mean * rng.gamma(np.exp(LOG_THETA), np.exp(-LOG_THETA), mean.shape))
    return mark(ad.AnnData(sp.csr_matrix(counts.astype(np.float64))), unstored="zero")


@pytest.fixture(scope="module")
def truth():
    """A fit whose model and guide are those that the cells were drawn from, and new cells."""
    rng = np.random.default_rng(0)
    weight, intercept = rng.normal(0, 0.7, N_GENES), rng.normal(0, 1, N_GENES)
    train, test = (simulated(weight, intercept, n, rng) for n in (100, N_CELLS))
    fitted = svi.fit(VAE(1, layers=0), AmortizedNormal(hidden=4), train, **OPTIONS)
    output = fitted.model.decoder.output
    with torch.no_grad():
        output.weight.copy_(torch.from_numpy(weight[:, None]))
        output.bias.copy_(torch.from_numpy(intercept))
        fitted.model.log_inverse_dispersion.fill_(LOG_THETA)
    fitted.guide = OnAGrid(fitted.model)
    return fitted, test


@pytest.fixture
def with_dispersion(truth):
    """The truth but for its inverse dispersions, which are as many times as large."""

    def judged(factor):
        fitted, test = truth
        log_theta = fitted.model.log_inverse_dispersion
        with torch.no_grad():
            log_theta += np.log(factor)
            try:
                return calibration(fitted, test, n_samples=50)
            finally:
                log_theta -= np.log(factor)

    return judged


def test_the_truth_is_calibrated(with_dispersion):
    found = with_dispersion(1)
    table = found.table()
    assert not table[table["by"] == "all"]["off"].any()
    assert table["off"].sum() <= 3  # of 124
    assert not found.tails()["off"].any()
    assert not found.pit_histogram()["off"].any()
    assert len(found.pit) == N_CELLS * N_GENES
    assert found.predictive.startswith("one half of each cell's counts given the other, 10 draws")


def test_counts_that_are_more_dispersed_are_found(with_dispersion):
    found = with_dispersion(10)
    table = found.table()
    shares = table[table["by"] == "all"]
    assert shares["off"].all()
    assert (shares["coverage"] < shares["level"]).all()
    assert found.tails()["off"].all()


def test_counts_that_are_less_dispersed_are_found(with_dispersion):
    table = with_dispersion(0.1).table()
    highest = table[(table["by"] == "predicted") & (table["part"] == 10)]
    assert table["off"].sum() > 10
    assert (highest["coverage"] > highest["level"]).all()


def test_cells_taken_for_others_are_found(truth):
    """An encoder that reads nothing: what it says of a cell is its prior."""

    class Prior(OnAGrid):
        def forward(self, batch):
            with batch.row_plate("cells"):
                pyro.sample("z", dist.Normal(batch.value.new_full((1,), 1.0), 0.1).to_event(1))

    fitted, test = truth
    kept, fitted.guide = fitted.guide, Prior(fitted.model)
    try:
        table = calibration(fitted, test, n_samples=50).table()
    finally:
        fitted.guide = kept
    assert table[table["by"] == "all"]["off"].all()


def test_parts_are_sorted_by_what_they_say(truth):
    fitted, test = truth
    found = calibrated_rows.places_in_rows(fitted, test, None, draws=2, seed=0)
    orders = calibration(fitted, test, n_samples=10).orders
    assert (np.diff(found.size[orders["row"]]) >= 0).all()
    assert (np.diff(fitted.var["n_entries"].to_numpy()[found.col[orders["column"]]]) >= 0).all()
    totals = np.asarray(test.X.sum(1)).ravel()[found.row]
    assert ((found.size > 0.3 * totals) & (found.size < 0.7 * totals)).all()


def test_one_seed_says_one_thing_and_few_cells_are_judged(truth, monkeypatch):
    fitted, test = truth
    monkeypatch.setattr(calibrated_rows, "MAX_ROWS", 30)
    monkeypatch.setattr(calibrated_rows, "MAX_ENTRIES", 300)
    one, same, other = (calibration(fitted, test, n_samples=10, seed=seed).pit for seed in (1, 1, 2))
    assert len(one) == 300
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(
    ("likelihood", "options"),
    [
        ("poisson", {}),
        ("poisson", {"library": "latent"}),
        ("multinomial", {}),
        ("zero-inflated-negative-binomial", {}),
        ("negative-binomial", {"dispersion": "gene-batch", "categories": {"batch": 2}}),
    ],
)
def test_every_likelihood_of_counts(likelihood, options):
    cells = small_counts()
    taken = {"batch": cells.obs["batch"].to_numpy()} if "categories" in options else None
    fitted = svi.fit(
        VAE(2, likelihood, hidden=8, **options), AmortizedNormal(hidden=8), cells, covariates=taken, **OPTIONS
    )
    found = calibration(fitted, cells, n_samples=10, covariates=taken)
    assert len(found.pit) == cells.n_obs * cells.n_vars
    assert ((found.pit >= 0) & (found.pit <= 1)).all()


def test_what_cannot_be_halved_is_refused():
    cells = small_counts()
    fitted = svi.fit(VAE(2, "gaussian", hidden=8), AmortizedNormal(hidden=8), cells, **OPTIONS)
    with pytest.raises(PlatewiseError, match=r"likelihood of counts, whose molecules .* got GaussianRows. Judge it by"):
        calibration(fitted, cells)
    fitted = svi.fit(VAE(2, hidden=8), AmortizedNormal(hidden=8), cells, **OPTIONS)
    single = cells.copy()
    single.X = sp.csr_matrix((np.ones(60), (np.arange(60), np.zeros(60, dtype=int))), cells.shape)
    with pytest.raises(PlatewiseError, match="Expected rows of at least 2 counts"):
        calibration(fitted, single)
    halved = cells.copy()
    halved.X = cells.X / 2
    with pytest.raises(PlatewiseError, match="Expected counts"):
        calibration(fitted, halved)
