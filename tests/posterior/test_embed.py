"""Embeddings beside the data: those of a factor model tell predictions apart, those of a VAE are its encoder's."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from platewise.data.errors import PlatewiseError
from platewise.guides import AmortizedFlow, AmortizedFullNormal, AmortizedNormal, RowBlockNormal
from platewise.inference import coordinate_ascent, svi
from platewise.models import VAE, LatentFactor
from platewise.posterior import embed, factors

from ..count_data import small_counts
from ..models.test_vae import batch_of


@pytest.fixture(scope="module")
def factor_fit():
    return coordinate_ascent.fit(LatentFactor(2, unstored="zero"), RowBlockNormal(), small_counts(), progress=False)


def test_distances_of_rows_are_those_of_their_predictions(factor_fit):
    cells = embed(factor_fit, small_counts())
    found = factors(factor_fit)
    predictions = found.obsm["X_factors"] @ found.varm["factors"].T
    apart = [np.linalg.norm(x[:1] - x, axis=1) for x in (cells.obsm["X_platewise"], predictions)]
    scale = apart[1][1:] / apart[0][1:]
    np.testing.assert_allclose(scale, scale[0], rtol=0.05)  # up to the uncertainty in the columns' second moments


def test_a_factor_models_columns_are_embedded_too(factor_fit):
    cells = embed(factor_fit, small_counts(), key="Z")
    assert set(cells.obsm) == {"Z", "Z_sd"} == set(cells.varm)
    assert cells.varm["Z"].shape == (cells.n_vars, 2)
    assert (cells.obsm["Z_sd"] > 0).all()


def test_a_vae_embeds_cells_that_it_never_saw():
    trained = svi.fit(VAE(3, hidden=8), AmortizedNormal(hidden=8), small_counts(), epochs=2, progress=False)
    new = small_counts(1)[5:20].copy()
    embedded = embed(trained, new)
    assert embedded is new
    assert new.obsm["X_platewise"].shape == (15, 3)
    alone = embed(trained, new[3:4].copy())
    np.testing.assert_allclose(alone.obsm["X_platewise"], new.obsm["X_platewise"][3:4], atol=1e-5)
    assert np.isfinite(new.obsm["X_platewise_sd"]).all()
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("kind", [AmortizedFlow, AmortizedFullNormal])
def test_a_vae_of_any_family_is_embedded(kind):
    trained = svi.fit(VAE(3, hidden=8), kind(hidden=8), small_counts(), epochs=2, progress=False, device="cpu")
    cells, again = (embed(trained, small_counts()) for _ in range(2))
    np.testing.assert_array_equal(cells.obsm["X_platewise"], again.obsm["X_platewise"])
    with torch.no_grad():
        q = trained.guide.eval().posterior(batch_of(small_counts()).to("cpu", torch.float32))["z"]
        draws = q.sample((2000,))
    np.testing.assert_allclose(cells.obsm["X_platewise_sd"], draws.std(0), rtol=0.25)
    apart = (cells.obsm["X_platewise"] - draws.mean(0).numpy()) / draws.std(0).numpy()
    assert np.abs(apart).max() < 5 / 500**0.5 + 5 / 2000**0.5


def numbers_alone(batch):
    with batch.row_plate("cells"):
        size = pyro.sample("size", dist.Normal(4.5, 0.5))
        pyro.sample("total", dist.Normal(size, 0.1), obs=batch.totals().log())


def test_a_model_without_vectors_has_no_embedding():
    trained = svi.fit(numbers_alone, AmortizedNormal(hidden=4), small_counts(), epochs=1, progress=False)
    with pytest.raises(PlatewiseError, match="a latent vector per row, got Program"):
        embed(trained, small_counts())


def test_a_factor_model_embeds_its_own_rows_alone(factor_fit):
    with pytest.raises(PlatewiseError, match="Pass the training data"):
        embed(factor_fit, small_counts()[:10].copy())
