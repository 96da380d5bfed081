"""Entries in ten equal parts, by how much a fit was shown of their row or column."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Int

from .names import Aligned

PARTS = 10


def by_training_entries(by: Aligned, then: Aligned, counts: pd.Series) -> Int[np.ndarray, " e"]:
    """Entries in ascending order of their row's, or column's, training entries; ties by name, as the fit orders them.

    Args:
        by: The row of each entry, or the column.
        then: The column of each entry, or the row: it breaks ties.
        counts: Training entries of each row of the fit, or column; a new one has none.
    """
    n_training = np.concatenate([counts.to_numpy(), np.zeros(len(by.new))])[by.code]
    return np.lexsort((then.code, by.code, n_training))


def tenths(x: np.ndarray, order: Int[np.ndarray, " e"]) -> list[np.ndarray]:
    """Ten parts of `x`, as equal as can be, in this order."""
    return np.array_split(x[order], PARTS)
