"""Moves that leave predictions as they are: what they keep, and what they bring about."""

from dataclasses import replace

import pytest
import torch
from platewise.guides import MeanFieldNormal, RowBlockNormal
from platewise.inference import transforms
from platewise.inference.affine import Affine, Frame, at_rest
from platewise.inference.factor_state import FactorState
from platewise.inference.moments import BYTES_AT_ONCE, Moments, pack, packed_size, slices, sums_of, unpack
from torch import Tensor

from .small_factors import FAMILIES, GIVEN, MEANINGS, block_of, predictions, random_fit, random_moments

EXACT = {"atol": 1e-9, "rtol": 1e-9}


def _swept(family: type, unstored: str = "missing", seed: int = 0, **given: object) -> FactorState:
    """A fit after a few updates, with factors that are neither centred nor turned."""
    _, _, state = random_fit(family, unstored, seed, **given)
    for update in (state.update_users, state.update_items, state.update_mean, state.update_scales):
        update()
    return state


def _settled(state: FactorState) -> FactorState:
    """A copy in the frame of the priors."""
    copy = replace(state)
    copy.settle()
    return copy


def _same_sums(moments: Moments) -> None:
    """Check that sums that were mapped along are those of the blocks."""
    exact = sums_of(moments.mean, moments.cov, moments.factorised)
    for got, expected in zip(moments.sums, exact, strict=True):
        torch.testing.assert_close(got, expected, **EXACT)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("unstored", MEANINGS)
@pytest.mark.parametrize(
    ("given", "moves"),
    [
        ("learned", ["translate"]),
        ("learned", ["rotate"]),
        ("learned", ["translate", "rotate", "translate", "rotate"]),
        ("given", ["translate", "rotate"]),
    ],
)
def test_moves_leave_every_prediction_as_it_is(family, unstored, given, moves):
    state = _swept(family, unstored, **GIVEN[given])
    before = predictions(_settled(state))
    for move in moves:
        getattr(state, move)()
    for got, expected in zip(predictions(_settled(state)), before, strict=True):
        torch.testing.assert_close(got, expected, **EXACT)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("unstored", MEANINGS)
def test_settling_leaves_the_bound_as_it_is(family, unstored):
    state = _swept(family, unstored)
    for _ in range(3):
        state.translate()
        state.rotate()
        state.update_users()
        state.update_items()
        state.update_noise()
    settled = _settled(state)
    assert settled.elbo() == pytest.approx(state.elbo(), rel=1e-10)
    _same_sums(settled.users)
    _same_sums(settled.items)
    assert settled.frame.gain == 0
    assert torch.equal(settled.frame.users.matrix, torch.eye(3))
    again = _settled(settled)
    assert again.elbo() == settled.elbo()
    assert torch.equal(again.users.mean, settled.users.mean)


def test_going_on_from_a_settled_fit_is_going_on():
    """Stored in another frame, the same updates find the same blocks, but for rounding."""
    one, other = _swept(RowBlockNormal), _swept(RowBlockNormal)
    for state in (one, other):
        state.translate()
        state.rotate()
    other.settle()
    for update in ("update_users", "update_items", "update_mean", "translate", "update_scales", "rotate"):
        getattr(one, update)()
        getattr(other, update)()
        assert one.elbo() == pytest.approx(other.elbo(), rel=1e-10)
    torch.testing.assert_close(_settled(one).items.mean.abs(), _settled(other).items.mean.abs(), **EXACT)


@pytest.mark.parametrize("unstored", MEANINGS)
def test_rotation_makes_second_moments_equal_diagonal_and_ordered(unstored):
    state = _swept(RowBlockNormal, unstored)
    state.rotate()
    users, items = (s.second[:-1, :-1] / s.n for s in (state.user_sums, state.item_sums))
    torch.testing.assert_close(users, items, **EXACT)
    torch.testing.assert_close(users, users.diagonal().diag(), **EXACT)
    assert (users.diagonal().diff() <= 0).all()
    torch.testing.assert_close(state.scales.user[:-1], state.scales.item[:-1], **EXACT)


def test_no_other_turn_is_better_than_the_rotation():
    state = _swept(RowBlockNormal)
    state.rotate()
    best = state.elbo()
    for _ in range(20):
        other = replace(state)
        turn = torch.eye(3)
        turn[:-1, :-1] += 0.3 * torch.randn(2, 2)
        other.frame = _turned(turn).after(state.frame)
        other.update_scales()
        assert other.elbo() < best


def _turned(matrix: Tensor) -> Frame:
    """A turn of the rows' blocks, undone by the columns'."""
    none = torch.zeros(len(matrix))
    return Frame(Affine(matrix, none), Affine(torch.linalg.inv(matrix).mT.contiguous(), none))


@pytest.mark.parametrize(
    ("family", "given"), [(RowBlockNormal, "given"), (RowBlockNormal, "items given"), (MeanFieldNormal, "learned")]
)
def test_rotation_changes_nothing_where_scales_are_given_or_blocks_factorised(family, given):
    state = _swept(family, **GIVEN[given])
    frame, scales = state.frame, state.scales
    state.rotate()
    assert state.frame is frame
    assert state.scales is scales


def test_a_factorised_fit_moves_only_means_of_biases():
    state = _swept(MeanFieldNormal)
    state.translate()
    users, items = state.frame.users, state.frame.items
    for one in (users, items):
        assert torch.equal(one.matrix, torch.eye(3))
        assert (one.shift[:-1] == 0).all()
    assert state.frame.gain == pytest.approx((users.shift[-1] + items.shift[-1]).item())


def test_translation_takes_means_of_factors_to_the_biases():
    """With wide priors of the biases nothing is left in the means of the factors."""
    state, wide = _swept(RowBlockNormal), torch.tensor([0.3, 0.3, 1e8])
    state.scales = replace(state.scales, user=wide, item=wide)
    assert (state.user_sums.first[:-1] / state.user_sums.n).abs().max() > 0.02
    for _ in range(30):
        state.translate()
    for sums in (state.user_sums, state.item_sums):
        assert (sums.first[:-1] / sums.n).abs().max() < 1e-5


def test_no_other_shift_is_better_than_the_translations():
    _, _, state = random_fit(RowBlockNormal, seed=2)
    state.update_users()
    one, other, s = state.user_sums, state.item_sums, state.scales
    state._move(Frame(*transforms.into_bias(one, other, s.user, s.item)))
    best = state.elbo()
    for _ in range(20):
        moved = replace(state)
        by, matrix = torch.zeros(3), torch.eye(3)
        by[:-1] = 0.1 * torch.randn(2)
        matrix[-1, :-1] = by[:-1]
        moved._move(Frame(Affine(torch.eye(3), by), Affine(matrix, torch.zeros(3))))
        assert moved.elbo() < best


@pytest.mark.parametrize("factorised", [False, True])
def test_an_affine_map_of_blocks_is_that_of_their_sums(factorised):
    moments = random_moments(11, 4, factorised)
    matrix = torch.eye(4) if factorised else torch.randn(4, 4)
    other = torch.eye(4) if factorised else torch.randn(4, 4)
    first, then = Affine(matrix, torch.randn(4)), Affine(other, torch.randn(4))
    once, both = then.of(first.of(moments)), then.after(first).of(moments)
    torch.testing.assert_close(once.mean, both.mean, **EXACT)
    torch.testing.assert_close(once.cov, both.cov, **EXACT)
    _same_sums(once)
    _same_sums(both)


def test_the_prior_of_blocks_as_they_are_stored():
    """The density of T x - s under the prior, completed to a square in x."""
    there, variance, x = Affine(torch.randn(3, 3), torch.randn(3)), torch.rand(3) + 0.1, torch.randn(3)
    precision, pull = there.prior(variance)
    y = there.matrix @ x - there.shift
    square = x @ precision @ x - 2 * pull @ x + (there.shift**2 / variance).sum()
    torch.testing.assert_close((y**2 / variance).sum(), square)


def test_packed_covariances():
    full = block_of(random_moments(5, 4, False)).cov
    assert pack(full).shape == (5, packed_size(4))
    torch.testing.assert_close(unpack(pack(full), 4), full)
    assert pack(full)[0, 4] == full[0, 2, 1]  # element (k, l) at k (k + 1) / 2 + l


def test_slices_cover_every_block_within_their_memory():
    n, d = 300_000, 17
    parts = list(slices(n, d))
    assert [p.start for p in parts[1:]] == [p.stop for p in parts[:-1]]
    assert (parts[0].start, parts[-1].stop) == (0, n)
    assert all((p.stop - p.start) * 8 * d * d <= BYTES_AT_ONCE for p in parts)
    assert at_rest(3).gain == 0
