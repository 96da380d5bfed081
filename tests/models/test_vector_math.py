"""Exponentials and logarithms of the compiled kernels, against numpy's in extended precision."""

import numpy as np
import pytest
from platewise.models.vector_math import exp, log1p

WIDTHS = [(np.float32, np.int32, 4e-7), (np.float64, np.int64, 4e-15)]


@pytest.mark.parametrize(("real", "integer", "error"), WIDTHS)
def test_exp(real, integer, error):
    x = np.linspace(-87, 87, 100_003).astype(real)
    out, bits = np.empty_like(x), np.empty(len(x), integer)
    exp(x, bits, out)
    np.testing.assert_allclose(out / np.exp(x.astype(np.longdouble)), 1, rtol=error)


@pytest.mark.parametrize(("real", "integer", "error"), WIDTHS)
def test_log1p(real, integer, error):
    powers = 10 ** np.linspace(-37, 37, 50_001)
    x = np.concatenate([powers, -powers[powers < 0.5], np.linspace(-0.9, 3, 50_001), [0.0]]).astype(real)
    out, bits = np.empty_like(x), np.empty(len(x), integer)
    log1p(x, bits, out)
    np.testing.assert_allclose(out, np.log1p(x.astype(np.longdouble)), rtol=error)


def test_what_is_beyond_the_range_or_not_a_number():
    x = np.array([-np.inf, -100, 100, np.inf, np.nan], np.float32)
    out, bits = np.empty_like(x), np.empty(len(x), np.int32)
    exp(x, bits, out)
    np.testing.assert_allclose(out, np.exp(np.array([-87, -87, 87, 87, np.nan])), rtol=1e-6)
