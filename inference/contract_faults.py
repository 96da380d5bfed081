"""Errors that Pyro and torch raise where a program breaks the contract, in the contract's words."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable
from typing import Any

from torch.distributions import Distribution, constraints

from ..data.batches import RowBatch
from ..data.errors import PlatewiseError
from ..data.program_lines import raising_line
from .constraint_words import elementwise, first_violation, in_words

TWICE = r"Multiple \w+ sites named '(.+)'|duplicate plate '(.+)'|^(\S+) is already in the trace"
COLLIDE = r'at plates "(.+)" and "(.+)", collide at dim=(-\d+)'
MISMATCH = r"Shape mismatch inside plate\('(.+)'\) at site (\S+) dim -?\d+, (\d+) vs (\d+)"
SIZES = r"size of tensor a \((\d+)\) must match the size of tensor b \((\d+)\)"
TOO_FEW_AXES = r"Dimension out of range"
OUT_OF_BOUNDS = r"index (\d+) is out of bounds for dimension -?\d+ with size (\d+)"

REMEDIES = {
    "nan": "Look for a division by 0, or the logarithm of a negative number, before it.",
    "positive": "Take .exp() or softplus of it, or make it a PyroParam with constraints.positive.",
    "unit": "Pass it as logits=, or take its sigmoid.",
    "simplex": "Pass it as logits=, or take its softmax.",
    "matrix": "Add a small number to its diagonal.",
}


def explained(error: Exception, batch: RowBatch | None = None) -> PlatewiseError | None:
    """What an error in a program says about the contract.

    Args:
        error: What was raised.
        batch: The batch that the program was run on, if it is known.

    Returns:
        The error to raise in its place; None if it has nothing to do with the contract.
    """
    if isinstance(error, PlatewiseError):
        return None
    kinds: dict[str, Callable[..., str | None]] = {
        TWICE: _twice,
        COLLIDE: _collide,
        MISMATCH: _mismatch,
        SIZES: _sizes,
        OUT_OF_BOUNDS: _out_of_bounds,
    }
    if re.search(TOO_FEW_AXES, str(error)) and (told := _too_few_axes(error)) is not None:
        return PlatewiseError(told)
    for pattern, tell in kinds.items():
        if match := re.search(pattern, str(error), re.MULTILINE):
            told = tell(match, raising_line(error), batch)
            return None if told is None else PlatewiseError(told)
    return None


def _twice(match: re.Match[str], line: str, batch: RowBatch | None) -> str:
    name = next(group for group in match.groups() if group)
    return (
        f"Expected every name once in a program, got {name!r} again{line}. Give this one another name; make a plate "
        "once (users = batch.row_plate('users')) and open it as often as you like."
    )


def _collide(match: re.Match[str], line: str, batch: RowBatch | None) -> str:
    inner, outer, dim = match.groups()
    return (
        f"Expected plates at dim={dim} one after the other, got {inner!r} inside {outer!r}{line}. Close {outer!r} "
        "first, and put other axes into the event with .to_event()."
    )


def _mismatch(match: re.Match[str], line: str, batch: RowBatch | None) -> str:
    plate, site, expected, got = match.groups()
    remedy = _pick({int(expected), int(got)}, batch) or "Give the distribution one element for each of the plate."
    return f"Expected site {site!r} of size {expected}, as plate {plate!r} has it, got size {got}{line}. {remedy}"


def _sizes(match: re.Match[str], line: str, batch: RowBatch | None) -> str | None:
    sizes = [int(size) for size in match.groups()]
    if not (remedy := _pick(set(sizes), batch)):
        return None
    return f"Expected tensors of one size, got {sizes[0]} and {sizes[1]}{line}. {remedy}"


def _pick(sizes: set[int], batch: RowBatch | None) -> str:
    """How values of rows or columns become those of entries, where sizes that differ are theirs; nothing elsewhere."""
    if batch is None or len(batch.value) not in sizes:
        return ""
    picks = {len(batch.rows): "at_rows", batch.n_cols: "at_cols"}
    found = [pick for size, pick in picks.items() if size in sizes - {len(batch.value)}]
    return f"Pick each entry's value with batch.{found[0]}(...)." if found else ""


def _too_few_axes(error: Exception) -> str | None:
    names = [frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)]
    if (picked := next((name for name in names if name in {"at_rows", "at_cols"}), None)) is None:
        return None
    return (
        f"Expected batch.{picked}(x) with an axis right of the plate's, got none{raising_line(error)}. For one number "
        f"each, write batch.{picked}(x, event_dim=0)."
    )


def _out_of_bounds(match: re.Match[str], line: str, batch: RowBatch | None) -> str | None:
    index, size = map(int, match.groups())
    if batch is None or size != len(batch.rows) or not size <= index < batch.n_rows:
        return None
    return (
        f"Expected rows picked by their place in the batch, got row {index} of a tensor that holds the {size} of the "
        f"batch{line}. Sites in batch.row_plate(...) are the batch's: pick each entry's with batch.at_rows(...)."
    )


def bad_parameter(error: Exception) -> PlatewiseError | None:
    """What Pyro's validation says of a distribution's parameter; None if the error is another."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code is Distribution.__init__.__code__:
            found = frame.f_locals
            if "valid" not in found:
                continue
            wrong = first_violation(found["constraint"], found["value"])
            kind, name, rule = type(found["self"]).__name__, found["param"], found["constraint"]
            return PlatewiseError(
                f"Expected {name} of {kind} to be {in_words(rule)}, got {wrong}{raising_line(error)}. "
                f"{_remedy(rule, wrong or '')}"
            )
    return None


def _remedy(constraint: Any, wrong: str) -> str:
    base = elementwise(constraint)
    if "nan" in wrong:
        return REMEDIES["nan"]
    if base in (constraints.positive, constraints.nonnegative):
        return REMEDIES["positive"]
    if base is constraints.unit_interval:
        return REMEDIES["unit"]
    if base is constraints.simplex:
        return REMEDIES["simplex"]
    matrices = (constraints.positive_definite, constraints.lower_cholesky)
    return REMEDIES["matrix"] if base in matrices else "Change what it is computed from."
