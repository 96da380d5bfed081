"""The models of the gallery, loaded from their files; data drawn from them, with the truth."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import scipy.sparse as sp
import torch
from platewise.data import RowBatch, make_ratings, mark
from platewise.data.sites import latent_sites
from platewise.inference import Fitted
from pyro import poutine
from torch import Tensor

FOLDER = Path(__file__).parents[2] / "examples" / "models"


def load(stem: str) -> Any:
    """A file of the gallery as a module."""
    spec = importlib.util.spec_from_file_location(stem, FOLDER / f"{stem}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PoissonFactorization = load("poisson_factorization").PoissonFactorization
GroupsOfUsers = load("groups_of_users").GroupsOfUsers
MissingDataPCA = load("missing_data_pca").MissingDataPCA
ItemResponse = load("item_response").ItemResponse


def some_entries(shape: tuple[int, int], share: float, seed: int = 0) -> sp.csr_matrix:
    """Entries at random places, of value 1."""
    return sp.csr_matrix((np.random.default_rng(seed).random(shape) < share).astype(np.float32))


def whole(x: sp.csr_matrix, covariates: Mapping[str, np.ndarray] | None = None) -> RowBatch:
    """All rows of a matrix as one batch."""
    crow, col = (torch.from_numpy(part.astype(np.int64)) for part in (x.indptr, x.indices))
    about = {name: torch.from_numpy(values) for name, values in (covariates or {}).items()}
    value = torch.from_numpy(x.data).to(torch.get_default_dtype())
    return RowBatch(torch.arange(x.shape[0]), crow, col, value, *x.shape, about)


def drawn(
    model: Any, site: str, given: Mapping[str, Tensor], places: sp.csr_matrix, **covariates: np.ndarray
) -> tuple[ad.AnnData, dict[str, np.ndarray]]:
    """Data drawn from a model at some places, and the truth; of whole rows, all cells."""
    batch = whole(places, covariates)
    held = {name: torch.as_tensor(x) for name, x in given.items()}
    program = poutine.condition(poutine.uncondition(model), held)  # the other way round would draw these anew
    trace = poutine.trace(program).get_trace(batch)
    y = trace.nodes[site]["value"].numpy().astype(np.float32)
    latent = {name: at["value"].numpy() for name, at in trace.nodes.items() if at["type"] == "sample" and name != site}
    if getattr(model, "unstored", "missing") == "zero":
        data = mark(ad.AnnData(sp.csr_matrix(y)), unstored="zero")
        data.obs_names, data.var_names = data.obs_names.map("r{}".format), data.var_names.map("c{}".format)
        return data, latent
    matrix = sp.csr_matrix((y, places.indices, places.indptr), shape=places.shape)
    return make_ratings(matrix, np.arange(places.shape[0]), np.arange(places.shape[1])), latent


def posterior(fitted: Fitted, data: ad.AnnData, n: int = 200, **covariates: np.ndarray) -> dict[str, np.ndarray]:
    """Draws of each latent site from the guide, (n, ...); sites in plates of rows for all rows."""
    batch = whole(data.X, covariates).to("cpu", fitted.dtype)
    with torch.no_grad():
        traces = [poutine.trace(fitted.guide).get_trace(batch) for _ in range(n)]
    return {name: np.stack([t.nodes[name]["value"].numpy() for t in traces]) for name in latent_sites(traces[0])}


def covered(draws: np.ndarray, truth: np.ndarray, level: float = 0.9) -> float:
    """Share of true values inside their central interval."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return float(((low < truth) & (truth < high)).mean())
