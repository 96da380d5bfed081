"""Models that observe whole rows, scored entry by entry: against scipy, in blocks, of new rows, and what is refused."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import scipy.stats as st
import torch
from platewise.data import RowBatch
from platewise.data.errors import PlatewiseError
from platewise.guides import AmortizedNormal, MeanFieldNormal
from platewise.inference import svi
from platewise.models import VAE, CountFactor
from platewise.posterior import evaluate, predict, predictive
from pyro.nn import PyroModule

from ..count_data import small_counts

OPTIONS = {"epochs": 3, "batch_rows": 20, "device": "cpu", "progress": False}
CELLS = small_counts()


@pytest.fixture(scope="module", params=["poisson", "negative-binomial"])
def fitted(request):
    """A fit whose guide is next to certain: its predictive is the likelihood at the guide's means."""
    fitted = svi.fit(CountFactor(2, request.param), MeanFieldNormal(), CELLS, **OPTIONS)
    with torch.no_grad():
        for x in fitted.guide.parameters():
            x[:, x.shape[1] // 2 :] = -15.0
    return fitted


def exact(fitted):
    """Each entry's distribution, by scipy."""
    x = CELLS.X.toarray()
    n, m = x.shape
    crow, col, value = m * torch.arange(n + 1), torch.arange(m).repeat(n), torch.from_numpy(x).flatten()
    q = fitted.guide.posterior(RowBatch(torch.arange(n), crow, col, value, n, m))
    mu, user, item = (q[name].mean.detach().double() for name in ("mu", "user", "item"))
    assert max(part.stddev.max() for part in q.values()) < 1e-3
    log_share = mu + user[:, -1:] + item[:, -1] + user[:, :-1] @ item[:, :-1].T
    mean = x.sum(1, keepdims=True) * log_share.exp().numpy()
    if fitted.model.likelihood_name == "poisson":
        return x, mean, st.poisson(mean)
    theta = fitted.model.log_inverse_dispersion.detach().double().exp().numpy()
    return x, mean, st.nbinom(theta, theta / (theta + mean))


def test_entries_are_scored_as_the_likelihood_has_them(fitted):
    x, mean, of = exact(fitted)
    scores = evaluate(fitted, CELLS, n_samples=400)
    assert (scores.n, scores.predictive, scores.n_unknown_rows) == (x.size, "sampled", 0)
    assert scores.log_predictive_density == pytest.approx(of.logpmf(x).mean(), rel=1e-3)
    assert scores.rmse == pytest.approx(np.sqrt(np.mean((x - mean) ** 2)), rel=1e-3)
    inside = (of.ppf(0.05) <= x) & (x <= of.ppf(0.95))
    assert scores.coverage["0.9"] == pytest.approx(inside.mean(), abs=0.02)


def test_blocks_are_of_whole_rows(fitted, monkeypatch):
    whole = evaluate(fitted, CELLS, n_samples=20)
    monkeypatch.setattr(predictive, "MAX_DRAWN", 20 * 60)  # two rows and a part of the third
    in_parts = evaluate(fitted, CELLS, n_samples=20)
    assert in_parts.log_predictive_density == pytest.approx(whole.log_predictive_density, rel=1e-3)


def test_cells_in_another_order_and_new_ones(fitted):
    turned = CELLS[::-1].copy()
    scores, same = evaluate(fitted, turned, n_samples=20), evaluate(fitted, CELLS, n_samples=20)
    assert scores.log_predictive_density == pytest.approx(same.log_predictive_density, rel=1e-3)
    turned.obs_names = [f"new{i}" if i < 7 else name for i, name in enumerate(turned.obs_names)]
    mixed = evaluate(fitted, turned, n_samples=20)
    assert (mixed.n_unknown_rows, mixed.n_unknown_entries) == (7, 7 * CELLS.n_vars)
    assert np.isfinite(mixed.log_predictive_density)


def test_single_entries_have_no_total_to_go_by(fitted):
    with pytest.raises(PlatewiseError, match=r"got some entries\. Use evaluate for rows, denoise for expectations"):
        predict(fitted, ["cell0"], ["gene0"])


def test_rows_whose_entries_depend_on_each_other_are_refused():
    fitted = svi.fit(VAE(2, "multinomial", hidden=4), AmortizedNormal(hidden=4), CELLS, **OPTIONS)
    with pytest.raises(PlatewiseError, match=r"independent given the latents, got MultinomialRows\. Use score_rows"):
        evaluate(fitted, CELLS, n_samples=2, data=CELLS)


class _Rows(PyroModule):
    """Cells about a level of their own, their totals added where they are read."""

    def __init__(self, reads_totals: bool) -> None:
        super().__init__()
        self.reads_totals = reads_totals

    def forward(self, batch: RowBatch) -> None:
        with batch.row_plate("cells"):
            level = pyro.sample("level", dist.Normal(batch.value.new_zeros(()), 1.0))
            if self.reads_totals:
                level = level + batch.log_totals()
            rows = dist.Normal(level[:, None].expand(-1, batch.n_cols), 1.0).to_event(1)
            pyro.sample("counts", rows, obs=batch.dense())


def test_single_entries_of_ones_own_rows_are_scored_where_no_total_is_read():
    alone, with_totals = (svi.fit(_Rows(reads), MeanFieldNormal(), CELLS, **OPTIONS) for reads in (False, True))
    for fitted in (alone, with_totals):
        assert np.isfinite(evaluate(fitted, CELLS, n_samples=20).log_predictive_density)
    assert predict(alone, ["cell0"], ["gene0"], n_samples=20)["sd"][0] > 0.5
    with pytest.raises(PlatewiseError, match="one observed site in the plate of entries"):
        predict(with_totals, ["cell0"], ["gene0"], n_samples=20)
