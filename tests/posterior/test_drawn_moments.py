"""Moments by draws are those in closed form, and recalibrate a model that has none; other likelihoods are refused."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import scipy.sparse as sp
import torch
from platewise.data.container import make_ratings
from platewise.data.errors import PlatewiseError
from platewise.data.split import split_entries
from platewise.guides import MeanFieldNormal
from platewise.inference import svi
from platewise.posterior import evaluate, recalibrate
from platewise.posterior.blocks import Request
from platewise.posterior.drawn_moments import drawn_moments
from platewise.posterior.held_out import held_out
from platewise.posterior.moments import moments
from platewise.posterior.reader import reading
from platewise.posterior.recalibrate import temperatures
from torch import nn

OPTIONS = {"epochs": 30, "progress": False, "device": "cpu", "dtype": torch.float64}
SD = 1.0


class Level(nn.Module):
    """y_ij ~ family(a_i, sd): no closed form, noise given."""

    unstored = "missing"

    def __init__(self, sd, family=dist.Normal):
        super().__init__()
        self.sd, self.family = sd, family

    def forward(self, batch):
        with batch.row_plate("people"):
            a = pyro.sample("a", dist.Normal(batch.value.new_zeros(()), 2.0))
        with batch.entries("answers"):
            pyro.sample("answer", self.family(batch.at_rows(a, event_dim=0), self.sd), obs=batch.value)


@pytest.fixture(scope="module")
def parts():
    """Answers for a fit, for calibration and for a test."""
    rng = np.random.default_rng(0)
    values = 2 * rng.normal(size=(120, 1)) + SD * rng.normal(size=(120, 40))
    answers = make_ratings(sp.csr_matrix(values), [f"p{i}" for i in range(120)], [f"q{j}" for j in range(40)])
    rest, test = split_entries(answers, test=0.3, seed=0)
    return (*split_entries(rest, test=0.4, seed=1), test)


def test_draws_tell_the_moments_that_are_known(block_fit, split):
    whole = held_out(block_fit, split[1])
    some = np.flatnonzero(whole.rows.known & whole.cols.known)[:200]
    request = Request(whole.rows.take(some), whole.cols.take(some), whole.value[some])
    with reading(block_fit, 0) as reader:
        mean, variance, noise = drawn_moments(reader, request, n=400)
        for block in request.blocks(reader, 1000):
            exact = [x.numpy() for x in moments(reader, block)]
            np.testing.assert_allclose(mean[block.at], exact[0], atol=4 * np.sqrt(exact[1].max() / 400))
            np.testing.assert_allclose(variance[block.at].mean(), exact[1].mean(), rtol=0.1)
            np.testing.assert_allclose(noise[block.at], exact[2], rtol=1e-6)


@pytest.mark.parametrize("off", [0.5, 1.0])
def test_a_model_of_ones_own_is_recalibrated(parts, off):
    train, calibration, test = parts
    fitted = svi.fit(Level(off * SD), MeanFieldNormal(), train, **OPTIONS)
    mended = recalibrate(fitted, calibration, parts=1)
    assert temperatures(mended)["factor"][0] == pytest.approx(1 / off, rel=0.1)
    after = evaluate(mended, test, n_samples=200)
    assert abs(after.coverage["0.9"] - 0.9) < 0.03
    assert "recalibrated" in after.predictive


def test_another_likelihood_is_refused_with_what_to_do(parts):
    fitted = svi.fit(Level(SD, dist.Laplace), MeanFieldNormal(), parts[0], **(OPTIONS | {"epochs": 1}))
    with pytest.raises(PlatewiseError, match="Expected a normal likelihood, whose noise a factor can widen, got Lapl"):
        recalibrate(fitted, parts[1])
