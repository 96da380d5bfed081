"""Where the columns' factors start when every entry is observed: along the matrix's leading principal directions.

From random factors, fits of one matrix end in optima that differ, and components are slow to fall into place. Principal
directions are what the model would find if all rows and columns were equally noisy: a few sparse products find them.

References:
    Tipping and Bishop (1999), Probabilistic principal component analysis.
    Halko, Martinsson and Tropp (2011), Finding structure with randomness (algorithm 4.4, subspace iteration).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from .entries import Matrix

ITERATIONS = 6
MORE = 10  # directions than are asked for, that the last of those be found too


def principal_directions(matrix: Matrix, rank: int) -> Float[Tensor, "n_cols k"]:
    """Leading right singular vectors of the matrix less means of rows and columns, the strongest first.

    Args:
        matrix: All of whose entries are observed, those not stored as zeros.
        rank: How many; fewer come back where the matrix has fewer rows or columns.

    Returns:
        The vectors in float64, of unit length. Random numbers are torch's.
    """
    n_rows, n_cols, unit = matrix.rows.n_rows, matrix.rows.n_cols, matrix.spread or 1.0
    of_cols = matrix.cols.total / n_rows
    of_rows = matrix.rows.total / n_cols - of_cols.mean()

    def forwards(q: Tensor) -> Tensor:
        product = (matrix.rows.sparse() @ q.to(matrix.rows.value.dtype)).double()
        return (product - of_cols @ q - of_rows[:, None] * q.sum(0)) / unit

    def backwards(p: Tensor) -> Tensor:
        product = (matrix.cols.sparse() @ p.to(matrix.cols.value.dtype)).double()
        return (product - of_cols[:, None] * p.sum(0) - of_rows @ p) / unit

    q = torch.randn(n_cols, min(rank + MORE, n_rows, n_cols), dtype=torch.float64, device=of_cols.device)
    for _ in range(ITERATIONS):
        q = torch.linalg.qr(backwards(forwards(q)))[0]
    image = forwards(q)
    _, turn = torch.linalg.eigh(image.mT @ image)  # weakest first
    return (q @ turn.flip(-1))[:, :rank]
