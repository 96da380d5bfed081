"""Many draws of the same rows: the guide's own, its encoder run once a batch; the same under the same seed."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from platewise.data.loader import MemoryRows, RowLoader
from platewise.guides import AmortizedFlow, AmortizedFullNormal, AmortizedNormal, MeanFieldNormal
from platewise.inference import Fitted, svi
from platewise.models import VAE, LatentFactor
from platewise.posterior import anomalies, denoise, generate, rank_genes, score_rows, to_arviz
from platewise.posterior.decoded_contrast import contrast_scores
from platewise.posterior.guide_draws import guide_draws
from platewise.posterior.rows import rows_of
from pyro import poutine

from ..count_data import N_CELLS, small_counts

OPTIONS = {"epochs": 2, "batch_rows": 20, "device": "cpu", "progress": False, "dtype": torch.float64}
FAMILIES = {"diagonal": AmortizedNormal, "full": AmortizedFullNormal, "flow": AmortizedFlow}
READ_OUTS: dict[str, tuple[Callable[[Fitted, int], object], int]] = {  # and of how many batches
    "score_rows": (lambda fitted, n: score_rows(fitted, small_counts(), draws=n), 1),
    "denoise": (lambda fitted, n: denoise(fitted, small_counts(), prob=0.1, draws=n).layers["mean"], 1),
    "stored": (lambda fitted, n: anomalies(fitted, small_counts(), n=50, draws=n), 1),
    "all": (lambda fitted, n: anomalies(fitted, small_counts(), n=50, draws=n, entries="all"), 1),
    "rank_genes": (lambda fitted, n: rank_genes(fitted, small_counts(), "kind == 1", draws=n), 2),
}


@cache
def fitted_with(family: str) -> Fitted:
    model, guide = VAE(2, hidden=8, library="latent"), FAMILIES[family](hidden=8)
    return svi.fit(model, guide, small_counts(), **OPTIONS)


@pytest.fixture
def encoded():
    """Rows of each batch that the encoder of the diagonal family read."""
    read: list[int] = []
    encoder = fitted_with("diagonal").guide.encoder
    hook = encoder.register_forward_hook(lambda module, given, out: read.append(len(given[0].rows)))
    yield read
    hook.remove()


@pytest.mark.parametrize("family", FAMILIES)
def test_draws_are_those_of_the_guide_run_anew(family: str) -> None:
    guide = fitted_with(family).guide.eval()
    batch = RowLoader(MemoryRows(small_counts().X), N_CELLS, dtype=torch.float64).look(N_CELLS)
    torch.manual_seed(3)
    anew = [poutine.trace(guide).get_trace(batch) for _ in range(3)]
    torch.manual_seed(3)
    for one, other in zip(guide_draws(guide, batch, 3), anew, strict=True):
        for site in ("z", "log_library"):
            torch.testing.assert_close(one.nodes[site]["value"], other.nodes[site]["value"], rtol=0, atol=0)
            log_q = [trace.nodes[site]["fn"].log_prob(trace.nodes[site]["value"]) for trace in (one, other)]
            torch.testing.assert_close(*log_q, rtol=0, atol=0)


def test_a_guide_without_an_encoder_is_run_for_each_draw() -> None:
    fitted = svi.fit(LatentFactor(2, unstored="zero"), MeanFieldNormal(), small_counts(), **OPTIONS)
    draws = [trace.nodes["user"]["value"] for trace in guide_draws(fitted.guide, fitted.blank_batch(), 2)]
    assert not torch.equal(*draws)


@pytest.mark.parametrize("name", READ_OUTS)
def test_the_encoder_reads_each_batch_once_whatever_the_draws(name: str, encoded: list[int]) -> None:
    read_out, n_batches = READ_OUTS[name]
    read_out(fitted_with("diagonal"), 70)
    assert len(encoded) == n_batches
    assert sum(encoded) <= N_CELLS


def test_joint_draws_read_their_rows_once(encoded: list[int]) -> None:
    fitted = fitted_with("diagonal")
    counts = []
    for n in (2, 30):
        encoded.clear()
        to_arviz(fitted, fitted.obs.index[:3], [], n, data=small_counts())
        counts.append(len(encoded))
    assert counts[0] == counts[1]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", READ_OUTS)
def test_one_seed_gives_one_answer(name: str, family: str) -> None:
    one, other = (READ_OUTS[name][0](fitted_with(family), 20) for _ in range(2))
    np.testing.assert_array_equal(pd.DataFrame(one).to_numpy(), pd.DataFrame(other).to_numpy())


def test_new_cells_are_encoded_once_a_batch_of_them(encoded: list[int]) -> None:
    generate(fitted_with("diagonal"), 40, data=small_counts(), like="posterior")
    assert encoded == [40]


def test_pairs_of_the_same_two_rows_differ_by_their_draws() -> None:
    """A row that is drawn again and again is encoded once, and its draws are independent all the same."""
    fitted = fitted_with("flow")
    with rows_of(fitted, small_counts(), None, 0) as loader:
        alone = [contrast_scores(fitted, fitted.model, loader, np.array([0]), np.array([1]), n) for n in (1, 300)]
    assert (alone[0][:, 1] == 0).all()
    assert (alone[1][:, 1] > 0).all()
