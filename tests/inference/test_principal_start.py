"""Principal directions as a start of exact fits with every entry observed."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from anndata import AnnData
from platewise.data import mark
from platewise.data.loader import MemoryRows
from platewise.guides import RowBlockNormal
from platewise.inference import coordinate_ascent
from platewise.inference.entries import matrix_of
from platewise.inference.principal_start import principal_directions
from platewise.models import LatentFactor


def a_matrix(n_rows: int, n_cols: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    low = rng.normal(size=(n_rows, 3)) * [4, 2, 1] @ rng.normal(size=(3, n_cols))
    return np.maximum(low + rng.normal(size=(n_rows, n_cols)), 0)


@pytest.mark.parametrize("shape", [(60, 25), (8, 25), (60, 4)])
def test_directions_are_those_of_the_singular_value_decomposition(shape):
    dense = a_matrix(*shape)
    matrix = matrix_of(MemoryRows(sp.csr_matrix(dense)), True, "cpu", torch.float64)
    found = principal_directions(matrix, 3).numpy()
    centred = dense - dense.mean(0) - dense.mean(1, keepdims=True) + dense.mean()
    wanted = np.linalg.svd(centred)[2][: found.shape[1]]
    np.testing.assert_allclose(np.abs(wanted @ found), np.eye(found.shape[1]), atol=1e-6)


def test_values_near_the_ends_of_float32():
    dense = 1e20 * a_matrix(30, 12).astype(np.float32)
    found = principal_directions(matrix_of(MemoryRows(sp.csr_matrix(dense)), True, "cpu", torch.float32), 3)
    torch.testing.assert_close(found.mT @ found, torch.eye(3, dtype=torch.float64))


def test_fewer_directions_than_asked_for():
    matrix = matrix_of(MemoryRows(sp.csr_matrix(a_matrix(2, 25))), True, "cpu", torch.float32)
    assert principal_directions(matrix, 5).shape == (25, 2)


def test_seeds_end_in_one_optimum():
    data = mark(AnnData(sp.csr_matrix(a_matrix(80, 30).astype(np.float32))), unstored="zero")
    bounds = []
    for seed in range(3):
        model = LatentFactor(rank=3, unstored="zero")
        options = {"seed": seed, "sweeps": 300, "tolerance": 1e-9, "progress": False}
        bounds.append(coordinate_ascent.fit(model, RowBlockNormal(), data, **options).elbo)
    assert max(bounds) - min(bounds) < 1e-6 * abs(bounds[0])
