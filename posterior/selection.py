"""Cells chosen by a query on their columns, or by name, and those that they are compared with.

A query is an expression that is true or false of each row of `obs`: `label == 'B' and n_counts > 500`. It may name
columns (in backticks where a name is no word) and `index`, compare, combine and compute; and ask a column `isin`,
`isna`, `notna`, `between`, or of its text `str.startswith`, `str.endswith`, `str.contains`. Nothing else is evaluated.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Int

from ..data.errors import PlatewiseError
from .names import names_of

Cells = str | Sequence[object] | np.ndarray | pd.Index | pd.Series  # a query, or names

_SYNTAX = (
    *(ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.Invert, ast.USub, ast.UAdd),
    *(ast.Compare, ast.cmpop, ast.Name, ast.Load, ast.Constant, ast.List, ast.Tuple, ast.BinOp),
    *(ast.BitAnd, ast.BitOr, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Mod),
)
_METHODS = ("isin", "isna", "notna", "between")
_OF_TEXT = ("startswith", "endswith", "contains")
_QUOTED = re.compile(r"(?P<text>'[^']*'|\"[^\"]*\")|`(?P<column>[^`]*)`")
_EXAMPLE = "Say, for instance, \"label == 'B'\" or \"index in ['a', 'b']\""


def chosen_and_others(
    obs: pd.DataFrame, cells: Cells, against: Cells | None, of: str = "cell"
) -> tuple[Int[np.ndarray, " k"], Int[np.ndarray, " m"]]:
    """Positions of the chosen rows, and of those that they are compared with.

    Args:
        obs: Names and columns of all rows.
        cells: A query on the columns, or names.
        against: The same of those to compare with; all that are not chosen if None.
        of: What a row is, for errors.

    Returns:
        Two sets of positions, each in ascending order.

    Raises:
        PlatewiseError: If names are unknown or twice there, a query cannot be evaluated, a set is empty, or the two
            have rows in common.
    """
    if not obs.index.is_unique:
        twice = obs.index[obs.index.duplicated()][0]
        raise PlatewiseError(f"Expected each {of} once, got {twice!r} more than once. Merge them first.")
    chosen = _positions(obs, cells, of)
    others = np.setdiff1d(np.arange(len(obs)), chosen) if against is None else _positions(obs, against, of)
    if not len(others):
        raise PlatewiseError(
            f"Expected some of the {of}s, got all {len(obs)}, with none left to compare with. Choose fewer."
        )
    if len(both := np.intersect1d(chosen, others)):
        raise PlatewiseError(
            f"Expected two sets of {of}s, got {len(both)} in both, the first {obs.index[both[0]]!r}. Make them apart."
        )
    return chosen, others


def _positions(obs: pd.DataFrame, cells: Cells, of: str) -> Int[np.ndarray, " k"]:
    found = np.flatnonzero(_asked(obs, cells, of)) if isinstance(cells, str) else _named(obs.index, cells, of)
    if not len(found):
        by = f" by {cells!r}" if isinstance(cells, str) else ""
        raise PlatewiseError(f"Expected at least one {of}, got none{by}. {_EXAMPLE}.")
    return found


def _named(index: pd.Index, names: object, of: str) -> Int[np.ndarray, " k"]:
    texts = names_of(names)
    code = index.get_indexer(pd.Index(texts, dtype=object)).astype(np.int64)
    if (code < 0).any():
        raise PlatewiseError(
            f"Expected names of {of}s in the matrix, got {texts[code < 0][0]!r}. Check them, or give a query."
        )
    return np.unique(code)


def _asked(obs: pd.DataFrame, query: str, of: str) -> np.ndarray:
    """Whether a query is true of each row."""
    _require_plain(obs, query)
    try:
        found = obs.eval(query, engine="python")
    except Exception as error:  # pandas raises whatever the columns' types do
        reason = " ".join(str(error).split())[:200]
        raise PlatewiseError(f"Expected a query on the columns of obs, got {query!r}: {reason}. {_EXAMPLE}.") from error
    if not (isinstance(found, pd.Series) and pd.api.types.is_bool_dtype(found.dtype) and len(found) == len(obs)):
        raise PlatewiseError(f"Expected a query that is true or false of each {of}, got {query!r}. {_EXAMPLE}.")
    return found.fillna(False).to_numpy(dtype=bool)


def _require_plain(obs: pd.DataFrame, query: str) -> None:
    """Refuse whatever is more than an expression of columns: pandas would call any method by its name."""
    quoted = [match["column"] for match in _QUOTED.finditer(query) if match["column"] is not None]
    plain = _QUOTED.sub(lambda match: match["text"] or " _quoted ", query)
    try:
        tree = ast.parse(plain.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise PlatewiseError(
            f"Expected a query on the columns of obs, got {query!r}: no such syntax. {_EXAMPLE}."
        ) from error
    allowed = _calls(tree)
    if wrong := [node for node in ast.walk(tree) if id(node) not in allowed and not isinstance(node, _SYNTAX)]:
        raise PlatewiseError(
            f"Expected a query that compares columns of obs, got {query!r} with {type(wrong[0]).__name__.lower()}. "
            f"{_EXAMPLE}."
        )
    names = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id != "_quoted"] + quoted
    if unknown := [name for name in names if name not in obs.columns and name != "index"]:
        listed = ", ".join(map(str, obs.columns)) or "none"
        raise PlatewiseError(f"Expected columns of obs, got {unknown[0]!r} in {query!r}. There are: {listed}.")


def _calls(tree: ast.AST) -> set[int]:
    """Nodes of the method calls that may stand in a query."""
    found: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and not node.keywords:
            method, owner = node.func, node.func.value
            of_text = method.attr in _OF_TEXT and isinstance(owner, ast.Attribute) and owner.attr == "str"
            column = owner.value if of_text and isinstance(owner, ast.Attribute) else owner
            if isinstance(column, ast.Name) and (of_text or method.attr in _METHODS):
                found |= {id(node), id(method), id(owner)}
    return found
