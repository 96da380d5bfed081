"""Fully observed matrices: the dense computation written out, and the global solution that theory knows.

Without grand mean and biases the best factorisation under row-block posteriors keeps the singular vectors of the matrix
V, and shrinks each singular value by itself: the free energy is a sum over them of functions of four numbers each.

References:
    Nakajima, Sugiyama, Babacan and Tomioka (2013), Global analytic solution of fully-observed variational Bayesian
    matrix factorization.
"""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from platewise.guides import RowBlockNormal
from platewise.inference import Fitted, coordinate_ascent, factor_state
from platewise.inference.entries import entries_of
from platewise.inference.full_update import update_full
from platewise.inference.row_update import Given, table_of, update_rows
from platewise.models import LatentFactor
from scipy.optimize import minimize, minimize_scalar

from .small_factors import FAMILIES, block_of, container, random_moments, small_matrix

SILENT = 1e-9  # prior standard deviation of what is to be absent: grand mean and biases
L, M = 24, 15
MEANINGS = ["missing", "zero"]


@pytest.mark.parametrize("factorised", [False, True])
@pytest.mark.parametrize("rank", [1, 4])
def test_the_shared_update_is_that_of_rows_with_every_entry(rank, factorised):
    """Gaps written out as zeros: row by row the same blocks, and the same sums."""
    gaps, d = small_matrix(), rank + 1
    columns, root = random_moments(14, d, factorised), torch.randn(d, d)
    given = Given(root @ root.mT + torch.eye(d), torch.randn(d), 1.3, 0.8)
    dense = gaps.toarray().astype(np.float64)
    every = sp.csr_matrix((dense.ravel(), np.tile(np.arange(14), 30), np.arange(31) * 14), dense.shape)
    shared = update_full(entries_of(gaps.astype(np.float64), 14), columns, given, factorised)
    rows = update_rows(entries_of(every, 14), table_of(columns), given, columns.mean, factorised)
    torch.testing.assert_close(shared.moments.mean, rows.moments.mean)
    torch.testing.assert_close(block_of(shared.moments).cov, block_of(rows.moments).cov)
    for one, other in zip(shared.moments.sums, rows.moments.sums, strict=True):
        torch.testing.assert_close(one, other)
    assert shared.error == pytest.approx(rows.error, rel=1e-10)
    assert shared.total == pytest.approx(rows.total, rel=1e-10)


@pytest.mark.parametrize("family", FAMILIES)
def test_observed_zeros_are_stored_zeros_of_ratings(family, monkeypatch):
    """The same matrix, its zeros stored or not: from the same start the same fit, sweep by sweep."""
    monkeypatch.setattr(factor_state, "principal_directions", lambda matrix, rank: torch.zeros(14, 0))
    gaps = small_matrix()
    dense = gaps.toarray()
    every = sp.csr_matrix((dense.ravel(), np.tile(np.arange(14), 30), np.arange(31) * 14), dense.shape)
    fits = []
    for unstored, matrix in (("zero", gaps), ("missing", every)):
        given = {"sigma": 0.8, "user_scale": [0.9, 0.6, 0.5], "item_scale": 0.7}
        model = LatentFactor(2, unstored=unstored, **given)
        about = {"sweeps": 8, "tolerance": 1e-12, "progress": False, "dtype": torch.float64}
        fits.append(coordinate_ascent.fit(model, family(), container(matrix, unstored), seed=1, **about))
    np.testing.assert_allclose(fits[0].history["elbo"], fits[1].history["elbo"], rtol=1e-6)


def _matrix(seed: int = 0, noise: float = 0.5) -> np.ndarray:
    """A matrix of rank three and noise, as float32 holds it."""
    rng = np.random.default_rng(seed)
    signal = (rng.normal(size=(L, 3)) * [3, 2, 1]) @ rng.normal(size=(3, M))
    return (signal + noise * rng.normal(size=(L, M))).astype(np.float32).astype(np.float64)


def _fit(v: np.ndarray, unstored: str, rank: int, sigma: float | None, scales: list[float] | None) -> Fitted:
    """A fit without grand mean and biases; their scales are silent, which needs the others given."""
    assert scales is not None
    given = [[*scales, SILENT] for _ in range(2)]
    model = LatentFactor(
        rank, sigma=sigma, user_scale=given[0], item_scale=given[1], mu_scale=SILENT, unstored=unstored
    )
    every = sp.csr_matrix((v.ravel(), np.tile(np.arange(M), L), np.arange(L + 1) * M), v.shape)
    about = {"sweeps": 3000, "tolerance": 1e-13, "progress": False, "dtype": torch.float64}
    return coordinate_ascent.fit(model, RowBlockNormal(), container(every, unstored), **about)


def _fitted_values(fitted: Fitted) -> np.ndarray:
    user, item = (fitted.guide.blocks(site)[0].numpy() for site in ("user", "item"))
    return user[:, :-1] @ item[:, :-1].T


def _energy(x: np.ndarray, gamma: float, sigma: float, ca: float, cb: float) -> float:
    """Free energy of one singular value, without what does not depend on it.

    `x` is the factors' sizes |a| and |b| along the singular vectors, and logarithms of their variances.
    """
    a, b, va, vb = x[0], x[1], *np.exp(x[2:])
    second_a, second_b = a**2 + L * va, b**2 + M * vb
    fit = (second_a * second_b - 2 * gamma * a * b) / sigma**2
    prior = second_a / ca**2 + second_b / cb**2 - L - M
    return 0.5 * (fit + prior + L * np.log(ca**2 / va) + M * np.log(cb**2 / vb))


def _least_energy(gamma: float, sigma: float, ca: float, cb: float) -> tuple[float, float]:
    """Shrunken singular value and free energy at the better of the minima with and without the factor."""
    most, found = 2 * gamma**0.5 + 1, []
    for root in (0.0, gamma**0.5):
        about = {"bounds": [(0, most)] * 2 + [(-18, 4)] * 2, "options": {"ftol": 1e-15, "gtol": 1e-9}}
        found.append(minimize(_energy, [root, root, -2, -2], (gamma, sigma, ca, cb), "L-BFGS-B", **about))
    best = min(found, key=lambda result: result.fun)
    return best.x[0] * best.x[1], best.fun


def _shrunk(gamma: float, sigma: float, ca: float, cb: float) -> float:
    """The analytic solution: the second largest root of a quartic, or nothing below the threshold."""
    if gamma <= _threshold(sigma, ca, cb):
        return 0.0
    weak = sigma**4 / (ca * cb) ** 2
    eta = (1 - sigma**2 * L / gamma**2) * (1 - sigma**2 * M / gamma**2) * gamma**2
    cubic = (L - M) ** 2 * gamma / (L * M)
    square = -(cubic * gamma + (L**2 + M**2) * eta / (L * M) + 2 * weak)
    roots = np.roots([1, cubic, square, cubic * abs(eta - weak), (eta - weak) ** 2])
    return float(np.sort(roots[abs(roots.imag) < 1e-6 * gamma].real)[-2])


def _threshold(sigma: float, ca: float, cb: float) -> float:
    """The singular value below which a factor is pruned."""
    half = (L + M) / 2 + sigma**2 / (2 * ca**2 * cb**2)
    return sigma * (half + (half**2 - L * M) ** 0.5) ** 0.5


@pytest.mark.parametrize(("unstored", "sigma"), [("zero", 0.7), ("zero", 1.2), ("zero", 2.5), ("missing", 2.5)])
def test_given_scales_the_fit_is_the_global_solution(unstored, sigma):
    """Singular vectors as they are, singular values shrunk by what the scalar problems say, or pruned."""
    v, scales = _matrix(), [1.5, 1.0, 0.7, 0.4]
    left, gamma, right = np.linalg.svd(v, full_matrices=False)
    shrunk = [_shrunk(g, sigma, c, c) for g, c in zip(gamma[:4], scales, strict=True)]
    best = [_least_energy(g, sigma, c, c) for g, c in zip(gamma[:4], scales, strict=True)]
    np.testing.assert_allclose([kept for kept, _ in best], shrunk, atol=1e-4 * gamma[0])
    expected = (left[:, :4] * shrunk) @ right[:4]
    fitted = _fit(v, unstored, 4, sigma, scales)
    np.testing.assert_allclose(_fitted_values(fitted), expected, atol=1e-6 * gamma[0])
    assert fitted.elbo == pytest.approx(-_total(v, sigma, scales), rel=1e-6)


def _total(v: np.ndarray, sigma: float, scales: list[float]) -> float:
    """Free energy of the whole matrix."""
    gamma = np.linalg.svd(v, compute_uv=False)[: len(scales)]
    kept = sum(_least_energy(g, sigma, c, c)[1] for g, c in zip(gamma, scales, strict=True))
    return kept + 0.5 * (v**2).sum() / sigma**2 + 0.5 * L * M * np.log(2 * np.pi * sigma**2)


def test_a_learned_noise_is_that_of_the_least_free_energy():
    v, scales = _matrix(), [1.5, 1.0, 0.7]
    fitted = _fit(v, "zero", 3, None, scales)
    best = minimize_scalar(lambda log: _total(v, np.exp(log), scales), bounds=(-1, 0), options={"xatol": 1e-5})
    assert fitted.model.sigma.item() == pytest.approx(np.exp(best.x), rel=1e-4)
    assert fitted.elbo == pytest.approx(-best.fun, rel=1e-6)


@pytest.mark.parametrize("unstored", MEANINGS)
def test_with_little_noise_and_wide_priors_it_is_the_truncated_svd(unstored):
    v = _matrix(noise=0.1)
    left, gamma, right = np.linalg.svd(v, full_matrices=False)
    fitted = _fit(v, unstored, 3, 1e-4, [1e3, 1e3, 1e3])
    expected = (left[:, :3] * gamma[:3]) @ right[:3]
    np.testing.assert_allclose(_fitted_values(fitted), expected, atol=1e-6 * gamma[0])


def test_the_posterior_covariance_of_the_solution_is_diagonal():
    """In the frame of the singular vectors, where prior scales differ."""
    fitted = _fit(_matrix(), "zero", 3, 0.9, [1.5, 1.0, 0.7])
    for site in ("user", "item"):
        cov = fitted.guide.blocks(site)[1][0, :3, :3]
        off = cov - cov.diagonal().diag()
        assert off.abs().max() < 1e-3 * cov.diagonal().min()
