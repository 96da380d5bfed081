import math
from itertools import pairwise

import pytest
import torch
from platewise.inference.optimizer import PairedAdam, RowAdam, one_cycle
from torch import Tensor, nn

BETAS = (0.5, 0.9)


class Both(nn.Module):
    """A table of rows and a dense parameter."""

    def __init__(self, n: int = 6, d: int = 3) -> None:
        super().__init__()
        self.table = nn.Embedding(n, d, sparse=True)
        self.dense = nn.Parameter(torch.randn(4))

    def forward(self, rows: Tensor) -> Tensor:
        return (self.table(rows) ** 3).sum() + (self.dense**2).sum() * self.table(rows).mean()


def _state(module: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in module.parameters()]


def _step(module: Both, optimizer: PairedAdam, rows: list[int], lr: float = 0.1, factor: float = 1.0) -> Tensor:
    optimizer.zero_grad()
    (factor * module(torch.tensor(rows))).backward()
    return optimizer.step(lr)


def _paired(module: nn.Module, clip_norm: float = 1e9) -> PairedAdam:
    return PairedAdam(module, (0.9, 0.99), BETAS, clip_norm)


def test_rows_that_are_all_seen_move_as_adam_moves_them():
    table = nn.Embedding(5, 3, sparse=True)
    dense = nn.Parameter(table.weight.detach().clone())
    ours = RowAdam(table.parameters(), lr=0.05, betas=BETAS)
    theirs = torch.optim.Adam([dense], lr=0.05, betas=BETAS, eps=1e-15)
    for k in range(20):
        target = torch.randn(5, 3)
        order = torch.randperm(5)
        for optimizer, x in ((ours, table(order)), (theirs, dense[order])):
            optimizer.zero_grad()
            ((x - target) ** 2).sum().backward()
            optimizer.step()
        torch.testing.assert_close(table.weight, dense, atol=1e-10, rtol=1e-10, msg=f"after step {k}")


def test_only_rows_that_were_seen_move():
    module = Both()
    optimizer = _paired(module)
    dense, table = _state(module)
    _step(module, optimizer, [1, 4])
    moved = (module.table.weight != table).any(1)
    assert moved.nonzero()[:, 0].tolist() == [1, 4]
    state = optimizer.state_dict()
    assert state["table.weight:count"].tolist() == [0, 1, 0, 0, 1, 0]
    assert not state["table.weight:exp_avg"][[0, 2, 3, 5]].any()
    assert (module.dense != dense).all()


def test_a_rows_bias_correction_is_that_of_the_times_it_was_seen():
    """The first step of a row is of size lr, whenever it comes."""
    module = Both()
    optimizer = _paired(module)
    for _ in range(5):
        _step(module, optimizer, [0])
    before = module.table.weight.detach().clone()
    _step(module, optimizer, [3])
    torch.testing.assert_close((module.table.weight - before)[3].abs(), torch.full((3,), 0.1))


def test_a_row_looked_up_twice_gets_the_sum_of_its_gradients():
    """As it would from a dense table."""
    module, dense = Both(), Both()
    dense.load_state_dict(module.state_dict())
    dense.table.sparse = False
    for _ in range(3):
        _step(module, _paired(module), [2, 5, 2])
        _step(dense, PairedAdam(dense, (0.9, 0.99), (0.9, 0.99), 1e9), [2, 5, 2])
    torch.testing.assert_close(module.table.weight[[2, 5]], dense.table.weight[[2, 5]], atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("rows", [[1, 4], [2, 5, 2]])
@pytest.mark.parametrize("clip_norm", [0.5, 1e9])
def test_the_norm_that_is_clipped_is_that_of_dense_and_sparse_together(rows, clip_norm):
    """The moments after a first step show the gradient that was used."""
    module, plain = Both(), Both()
    plain.load_state_dict(module.state_dict())
    plain.table.sparse = False
    plain(torch.tensor(rows)).backward()
    norm = torch.nn.utils.clip_grad_norm_(plain.parameters(), clip_norm)
    assert 0.5 < norm < 1e9
    optimizer = _paired(module, clip_norm)
    _step(module, optimizer, rows)
    state = optimizer.state_dict()
    torch.testing.assert_close(
        state["table.weight:exp_avg"], (1 - BETAS[0]) * plain.table.weight.grad, atol=1e-6, rtol=1e-6
    )
    torch.testing.assert_close(state["dense:exp_avg"], 0.1 * plain.dense.grad, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("factor", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("first", [True, False])
def test_a_step_that_is_not_finite_changes_nothing_but_the_count(factor, first):
    module = Both()
    optimizer = _paired(module)
    if not first:
        assert _step(module, optimizer, [0, 1])
    before, moments = _state(module), {k: v.clone() for k, v in optimizer.state_dict().items()}
    finite = _step(module, optimizer, [1, 2], factor=factor)
    assert not finite
    assert int(optimizer.skipped) == 1
    for x, y in zip(_state(module), before, strict=True):
        assert torch.equal(x, y)
    for name, x in optimizer.state_dict().items():
        if name != "skipped":
            assert torch.equal(x, moments.get(name, torch.zeros_like(x))), name
    assert _step(module, optimizer, [1, 2])
    assert all(x.isfinite().all() for x in _state(module))


def test_one_row_that_is_not_finite_stops_the_dense_part_as_well():
    module = Both()
    optimizer = _paired(module)
    with torch.no_grad():
        module.table.weight[2] = math.inf
    before = module.dense.detach().clone()
    _step(module, optimizer, [2])
    assert torch.equal(module.dense, before)


def test_the_decision_to_skip_is_taken_on_the_device():
    """What a step returns is a tensor, not a Python truth value, which would wait."""
    module = Both()
    finite = _step(module, _paired(module), [0])
    assert isinstance(finite, Tensor)
    assert finite.dtype == torch.bool


def test_state_goes_out_and_comes_back():
    module = Both()
    optimizer = _paired(module)
    for rows in ([0, 1], [1, 2], [4]):
        _step(module, optimizer, rows)
    _step(module, optimizer, [0], factor=math.nan)
    other = Both()
    other.load_state_dict(module.state_dict())
    restored = _paired(other)
    restored.load_state_dict({name: x.clone() for name, x in optimizer.state_dict().items()})
    assert int(restored.skipped) == 1
    for rows in ([1, 5], [0, 2]):
        _step(module, optimizer, rows)
        _step(other, restored, rows)
    for x, y in zip(_state(module), _state(other), strict=True):
        assert torch.equal(x, y)


def test_restoring_leaves_what_was_restored_from_alone():
    module = Both()
    optimizer = _paired(module)
    _step(module, optimizer, [0])
    saved = optimizer.state_dict()
    kept = {name: x.clone() for name, x in saved.items()}
    other = Both()
    restored = _paired(other)
    restored.load_state_dict(saved)
    _step(other, restored, [0, 1])
    _step(other, restored, [0], factor=math.nan)
    assert all(torch.equal(x, kept[name]) for name, x in saved.items())


def test_tables_and_dense_parameters_may_stand_alone():
    for module in (nn.Embedding(4, 2, sparse=True), nn.Linear(2, 1)):
        optimizer = _paired(module)
        x = module(torch.tensor([1])) if isinstance(module, nn.Embedding) else module(torch.ones(2))
        before = _state(module)
        x.sum().backward()
        assert optimizer.step(0.1)
        assert any((a != b).any() for a, b in zip(_state(module), before, strict=True))


def test_frozen_parameters_stay():
    module = Both()
    module.dense.requires_grad_(False)
    before = module.dense.clone()
    _step(module, _paired(module), [0, 1])
    assert torch.equal(module.dense, before)


def test_the_schedule_rises_and_falls():
    rates = [one_cycle(k / 1000, peak=0.5, warmup=0.1, final=0.01) for k in range(1001)]
    assert rates[0] == pytest.approx(0.05)
    assert max(rates) == pytest.approx(0.5) == rates[100]
    assert rates[-1] == pytest.approx(0.005)
    assert all(a < b for a, b in pairwise(rates[:101]))
    assert all(a > b for a, b in pairwise(rates[100:]))


def test_the_schedule_without_warmup_starts_at_its_peak():
    assert one_cycle(0.0, peak=0.5, warmup=0.0, final=0.01) == 0.5
