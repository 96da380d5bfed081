"""Streaming natural gradients: coordinate ascent where blocks hold all there is, from memory and from disk."""

import os
import signal
from dataclasses import replace

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from platewise.data import PlatewiseError, RowLoader, simulate_ratings, write_h5ad
from platewise.data.loader import MemoryRows
from platewise.guides import MeanFieldNormal, NormalGuide, RowBlockNormal
from platewise.inference import Fitted, coordinate_ascent, natural_gradient, svi
from platewise.inference.elbo import ClosedFormELBO
from platewise.inference.item_statistics import Tally
from platewise.models import LatentFactor
from torch import Tensor

from ..regression_model import Regression, RegressionGuide, regression_data
from .small_factors import FAMILIES, GIVEN, block_of, container, random_fit, small_matrix, whole

MATRIX = small_matrix()
RATINGS = container(MATRIX)
ABOUT = {"progress": False, "dtype": torch.float64}
FULL = {"random_passes": 0, "momentum": 0.0, "batch_rows": 30}  # coordinate ascent
EXACT = {"atol": 1e-8, "rtol": 1e-8}
ROUNDING = 1e-9  # relative fall of the bound that an exact update may show


def _fit(guide: NormalGuide | None = None, given: str = "learned", data: object = RATINGS, **options: object) -> Fitted:
    model = LatentFactor(2, **GIVEN[given])
    return natural_gradient.fit(model, guide or RowBlockNormal(), data, **(ABOUT | {"passes": 4} | options))


def _assert_same(one: Fitted, two: Fitted) -> None:
    for site in ("mu", "item"):
        for got, expected in zip(one.guide.blocks(site), two.guide.blocks(site), strict=True):
            torch.testing.assert_close(got, expected, **EXACT)
    for name, scale in one.model.scales().items():
        torch.testing.assert_close(scale, two.model.scales()[name], **EXACT)
    assert one.history["elbo"].to_numpy() == pytest.approx(two.history["elbo"].to_numpy(), rel=1e-8)


def _bound(fitted: Fitted, matrix: sp.csr_matrix = MATRIX) -> float:
    return ClosedFormELBO(fitted.model, fitted.guide)(whole(matrix)).item()


@pytest.fixture
def on_disk(tmp_path):
    """The same ratings in a file."""
    write_h5ad(RATINGS, tmp_path / "x.h5ad")
    return tmp_path / "x.h5ad"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("given", "batch_rows"), [*((given, 11) for given in GIVEN), ("learned", 30), ("learned", 3)])
def test_without_random_passes_it_is_coordinate_ascent(family, given, batch_rows, on_disk):
    """Sweep by sweep, whatever the blocks, one of a row without entries among them."""
    model, options = LatentFactor(2, **GIVEN[given]), {"sweeps": 4, "tolerance": 1e-300, "momentum": 0.0}
    exact = coordinate_ascent.fit(model, family(), RATINGS, **options, **ABOUT)
    for data in (RATINGS, on_disk):
        _assert_same(_fit(family(), given, data, **(FULL | {"batch_rows": batch_rows})), exact)


def test_from_disk_is_from_memory(on_disk):
    options = {"random_passes": 0, "batch_rows": 7, "momentum": 0.8}
    one, two = _fit(**options), _fit(data=str(on_disk), **options)
    assert all(torch.equal(x, two.guide.state_dict()[name]) for name, x in one.guide.state_dict().items())
    assert one.history["elbo"].tolist() == two.history["elbo"].tolist()
    assert (one.data, two.data) == (RATINGS, on_disk)


def test_one_seed_gives_one_fit():
    one, same, other = (_fit(seed=seed, batch_rows=7) for seed in (3, 3, 4))
    assert one.history["elbo"].tolist() == same.history["elbo"].tolist()
    assert one.history["elbo"].tolist() != other.history["elbo"].tolist()


def _state(family: type) -> natural_gradient.State:
    _, _, factors = random_fit(family)
    loader = RowLoader(MemoryRows(MATRIX), 30, dtype=torch.float64)
    count = torch.tensor(MATRIX.getnnz(0), dtype=torch.float64)
    return natural_gradient.State(factors, Tally.empty(14, 3, "cpu"), loader, count, natural_gradient.Options(), 0, [])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_of_rate_one_from_all_rows_is_the_exact_update(family):
    state, (_, _, exact) = _state(family), random_fit(family)
    exact.update_users()
    exact.update_items()
    natural_gradient.step(state, whole(MATRIX))
    torch.testing.assert_close(state.factors.items.mean, exact.items.mean, **EXACT)
    torch.testing.assert_close(state.factors.items.cov, exact.items.cov, **EXACT)


def _precision(state: natural_gradient.State) -> Tensor:
    return torch.linalg.inv(block_of(state.factors.items).cov)


def test_a_later_step_is_a_weighted_mean_of_natural_parameters():
    """Of precisions, which do not change with the grand mean in between."""
    state = _state(RowBlockNormal)
    natural_gradient.step(state, whole(MATRIX))
    before, exact = _precision(state), replace(state, factors=replace(state.factors))
    exact.factors.update_users()
    exact.factors.update_items()
    natural_gradient.step(state, whole(MATRIX))
    rate = 2**-0.7
    torch.testing.assert_close(_precision(state), (1 - rate) * before + rate * _precision(exact), **EXACT)


@pytest.mark.parametrize("family", FAMILIES)
def test_streamed_sweeps_never_lower_the_bound(family):
    elbo = _fit(family(), passes=15, batch_rows=11, momentum=0.0).history["elbo"].to_numpy()[1:]
    assert (np.diff(elbo) >= -ROUNDING * abs(elbo[-1])).all()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("hold_rows", [True, False])
@pytest.mark.parametrize("random_passes", [0, 2])
def test_the_rows_written_last_only_raise_the_bound(family, hold_rows, random_passes):
    fitted = _fit(family(hold_rows=hold_rows), batch_rows=7, random_passes=random_passes)
    bound = _bound(fitted)
    assert bound >= fitted.elbo - ROUNDING * abs(bound)
    assert bound == pytest.approx(fitted.elbo, rel=0.02)


@pytest.mark.parametrize(("family", "near"), [(RowBlockNormal, 2e-3), (MeanFieldNormal, 6e-3)])
def test_ten_passes_come_close_to_the_maximum(family, near):
    """As close as ten sweeps of coordinate ascent, which move a factorised fit slowly at its end."""
    model = LatentFactor(2, sigma=0.5, user_scale=0.7, item_scale=0.7)
    ratings, _ = simulate_ratings(model, 300, 80, 5000, given={"mu": 3.5}, seed=1)
    exact = coordinate_ascent.fit(LatentFactor(3), family(), ratings, tolerance=1e-5, **ABOUT)
    streamed = natural_gradient.fit(LatentFactor(3), family(), ratings, passes=10, batch_rows=40, **ABOUT)
    assert streamed.elbo > exact.elbo - near * abs(exact.elbo)
    assert streamed.converged is None
    assert streamed.stopped.startswith("all 10 passes done; the bound changed by")


def test_a_fit_goes_on_from_the_guide_it_is_given():
    first = _fit(**FULL)
    again = natural_gradient.fit(first.model, first.guide, RATINGS, passes=1, **(ABOUT | FULL))
    assert again.elbo >= first.elbo
    assert again.elbo == pytest.approx(_fit(**(FULL | {"passes": 5})).elbo, rel=1e-4)


@pytest.mark.parametrize("name", ["step", "accumulate"])
def test_ctrl_c_ends_the_fit_after_the_pass_in_hand(name, monkeypatch):
    plain = getattr(natural_gradient, name)

    def pressed(*arguments: object) -> None:
        monkeypatch.undo()
        os.kill(os.getpid(), signal.SIGINT)
        plain(*arguments)

    monkeypatch.setattr(natural_gradient, name, pressed)
    fitted, done = _fit(batch_rows=7), {"step": 1, "accumulate": 2}[name]
    assert fitted.stopped == f"interrupted after pass {done} of 4; fit again to have them all"
    assert fitted.converged is False
    assert len(fitted.history) == done
    assert np.isfinite(_bound(fitted))


def test_ctrl_c_in_the_last_pass_comes_too_late(monkeypatch):
    plain = natural_gradient.accumulate

    def pressed(*arguments: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        plain(*arguments)

    monkeypatch.setattr(natural_gradient, "accumulate", pressed)
    assert _fit(passes=1, **FULL).stopped.startswith("1 pass done")


def _few(n: int, m: int, at: dict[tuple[int, int], float]) -> ad.AnnData:
    (row, col), value = zip(*at, strict=True), list(at.values())
    return container(sp.csr_matrix((value, (row, col)), (n, m)))


@pytest.mark.parametrize(("seed", "batch_rows"), [(0, 90), (1, 90), (2, None), (3, None)])
@pytest.mark.parametrize("hold_rows", [True, False])
def test_blocks_of_rows_without_entries(seed, batch_rows, hold_rows):
    """The rows first looked at may have none, nor the first block; most columns are in no block at all."""
    data = _few(900, 9, {(3, 4): 2.0, (3, 5): 3.0, (500, 6): 1.0, (899, 4): 2.5})
    fitted = _fit(RowBlockNormal(hold_rows=hold_rows), data=data, seed=seed, batch_rows=batch_rows, passes=3)
    assert np.isfinite(fitted.history["elbo"]).all()
    assert np.isfinite(_bound(fitted, data.X))
    mean, cov = fitted.guide.blocks("item", torch.tensor([0, 8]))  # without entries: the prior, before the last moves
    prior = fitted.model.scales()["item"] ** 2
    assert mean.abs().max() < 0.1 * prior.sqrt().min()
    torch.testing.assert_close(cov.diagonal(dim1=1, dim2=2), prior.expand(2, 3), rtol=0.1, atol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"passes": 0}, "Expected passes above 0, got 0"),
        ({"batch_rows": 0}, "Expected batch_rows above 0, got 0"),
        ({"passes": 2, "random_passes": 2}, r"and more passes than that, got 2 of 2 passes\. Raise passes"),
        ({"random_passes": -1}, "Expected random_passes of 0 or more"),
        ({"forgetting": 0.5}, "Expected forgetting above 0.5 and at most 1, got 0.5"),
        ({"forgetting": 1.1}, "Expected forgetting above 0.5 and at most 1"),
        ({"momentum": 1.0}, "Expected momentum from 0 to below 1, got 1.0"),
        ({"momentum": -0.1}, "Expected momentum from 0 to below 1"),
        ({"hold_rows": False}, r"Expected options among \[.*\], got \['hold_rows'\]"),
        ({"resume": None}, r"Expected options among \[.*\], got \['resume'\]"),
    ],
)
def test_options_out_of_their_ranges_are_refused(options, message):
    with pytest.raises(PlatewiseError, match=message):
        _fit(**options)


@pytest.mark.parametrize(("passes", "first"), [(1, 0), (2, 1), (8, 1)])
def test_the_first_pass_is_random_where_there_is_another(passes, first):
    assert natural_gradient.Options(passes=passes).first_passes == first


def test_the_ends_of_the_ranges_are_taken():
    _fit(passes=1)
    _fit(passes=2, random_passes=1, forgetting=1.0, momentum=0.0, batch_rows=4)
    _fit(passes=1, random_passes=0, forgetting=0.51, momentum=0.99, batch_rows=1000)


def test_what_has_no_exact_updates_is_refused():
    with pytest.raises(PlatewiseError, match=r"for natural gradients, got Regression\. Fit it by svi"):
        natural_gradient.fit(Regression(), RegressionGuide(60), regression_data()[0], **ABOUT)
    with pytest.raises(PlatewiseError, match=r"got RegressionGuide\. Fit it by svi"):
        natural_gradient.fit(LatentFactor(2), RegressionGuide(60), RATINGS, **ABOUT)


def test_a_matrix_observed_whole_is_refused():
    with pytest.raises(PlatewiseError, match="got one of a matrix observed whole") as said:
        natural_gradient.fit(LatentFactor(2, unstored="zero"), RowBlockNormal(), container(MATRIX, "zero"), **ABOUT)
    assert "\n" not in str(said.value)


@pytest.mark.parametrize("algorithm", [svi, coordinate_ascent])
def test_other_algorithms_do_not_resume_it(algorithm):
    fitted = _fit()
    with pytest.raises(PlatewiseError, match="to go on with, got one by natural-gradient"):
        algorithm.fit(LatentFactor(2), RowBlockNormal(), RATINGS, resume=fitted, **ABOUT)
