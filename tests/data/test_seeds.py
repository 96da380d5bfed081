import numpy as np
import pytest
import scipy.sparse as sp
from platewise.data import PlatewiseError, RowLoader, make_ratings, simulate_ratings, split_entries
from platewise.data.loader import MemoryRows
from platewise.models import LatentFactor

X = sp.csr_matrix(np.ones((4, 4), np.float32))
SEEDED = {
    "split": lambda seed: split_entries(make_ratings(X, range(4), range(4)), seed=seed),
    "load": lambda seed: RowLoader(MemoryRows(X), 2, seed=seed),
    "simulate": lambda seed: simulate_ratings(LatentFactor(1), 4, 4, 5, seed=seed),
}


@pytest.mark.parametrize("seeded", SEEDED.values(), ids=SEEDED)
def test_seeds_out_of_range_are_refused(seeded):
    seeded(2**63 - 1)
    for seed in (-1, 2**63):
        with pytest.raises(PlatewiseError, match=rf"Expected a seed .*, got {seed}. Choose, say, 0."):
            seeded(seed)


@pytest.mark.parametrize("size", [(1, 5, 2), (5, 1, 5), (0, 0, 0), (-4, -4, 2), (5, -5, -5), (5, 5, -1)])
def test_sizes_that_cannot_be_simulated_are_refused(size):
    with pytest.raises(PlatewiseError, match=r"Expected (2 users and 2 items|between)"):
        simulate_ratings(LatentFactor(1), *size)
