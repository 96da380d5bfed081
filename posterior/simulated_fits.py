"""Simulation-based calibration of a fit's own kind: its model, guide and algorithm on data drawn from its model.

The model's learned parameters are held at what the fit found, so that its prior is the one that data are drawn from,
and only the guide is fitted. The data have the entries of a small part of the training matrix. What is ranked is
identified: expectations of entries, and the log-likelihood of all of the data. Raw factors, known up to a rotation, are
not.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import scipy.sparse as sp
import torch
from pyro import poutine
from pyro.poutine.trace_struct import Trace
from torch import Tensor, nn

from ..data.batches import RowBatch
from ..data.errors import PlatewiseError
from ..data.loader import MemoryRows, RowLoader
from ..data.sites import latent_sites, observed_sites
from ..inference.fitted import Fitted
from .covariates import Covariates, covariates_of
from .guide_draws import guide_draws
from .reader import running
from .refit import made_anew, refit, without_training
from .simulation_calibration import SimulationCalibration, simulation_calibration
from .training import given_or_remembered, training_data

N_CELLS = 5  # whose expectations are ranked
MOST_STEPS = 1000  # of stochastic steps of a fit to a part so small
LARGEST = 1e9  # in data that float32 can tell apart
LOG_LIKELIHOOD = "log-likelihood"


def simulation_calibration_of(
    fitted: Fitted,
    data: ad.AnnData | Path | str | None = None,
    *,
    rows: int = 30,
    cols: int = 20,
    replicates: int = 50,
    draws: int = 200,
    seed: int = 0,
    covariates: Covariates | None = None,
) -> SimulationCalibration:
    """Ranks of true values among draws of fits, of a fit's own kind, to data drawn from its model.

    It judges a kind of fit on small data, where posteriors are wide: no single fit, and no large one. Stochastic fits
    take as many steps as the fit did, 1,000 at most, on all of the rows at once.

    Args:
        fitted: The fit; left as it is.
        data: The training data, or the path of their .h5ad; those of the fit if None.
        rows: Rows of the part, each with an entry.
        cols: Columns of the part, those with the most entries; all of them if the model has a parameter for each.
        replicates: Simulated data sets, each of which is fitted.
        draws: Draws of each fit.
        seed: Seed of everything.
        covariates: Covariates of the rows, if the model takes any.

    Returns:
        Ranks of the expectations of five cells of the part, by name "row, column", and of the log-likelihood.

    Raises:
        PlatewiseError: If model or guide cannot be made again, the model cannot draw such data, or its likelihood does
            not know its mean.
    """
    if min(rows, cols) < 2:
        raise PlatewiseError(f"Expected at least 2 rows and 2 columns, got {rows} and {cols}. Take, say, 30 and 20.")
    adata = training_data(fitted, given_or_remembered(fitted, data, "the training data, to fit them again"))
    part, about = _part(fitted, adata, rows, cols, covariates, np.random.default_rng(seed))
    batch = _batch(fitted, part, about)
    kind = _Kind(fitted, part, batch, about, _cells(part, seed))
    found = simulation_calibration(
        kind.simulate, kind.refit, kind.quantities, replicates=replicates, draws=draws, seed=seed
    )
    return replace(found, about=_in_words(fitted, part, replicates))


@dataclass(frozen=True, eq=False)
class _Kind:
    """A kind of fit, on a part of the matrix.

    Attributes:
        fitted: A fit of the kind.
        part: Where the entries are.
        batch: The same as a batch.
        covariates: Of its rows.
        cells: Rows and columns of the cells whose expectations are ranked.
    """

    fitted: Fitted
    part: ad.AnnData
    batch: RowBatch
    covariates: Mapping[str, np.ndarray]
    cells: tuple[np.ndarray, np.ndarray]

    @cached_property
    def latents(self) -> frozenset[str]:
        """Names of the model's latent sites."""
        with running(self.fitted):
            return frozenset(latent_sites(poutine.trace(self.fitted.model).get_trace(self.batch)))

    def simulate(self, seed: int) -> tuple[tuple[ad.AnnData, RowBatch], dict[str, float]]:
        """Data, and the true values."""
        with running(self.fitted):
            torch.manual_seed(seed)
            drawn = poutine.trace(poutine.uncondition(self.fitted.model)).get_trace(self.batch)
            x = self._matrix(drawn)
            data = ad.AnnData(x, obs=self.part.obs, var=self.part.var, uns=dict(self.part.uns))
            batch = _batch(self.fitted, data, self.covariates)
            return (data, batch), self._values(drawn, batch)

    def refit(self, drawn: tuple[ad.AnnData, RowBatch]) -> tuple[Fitted, RowBatch]:
        """A fit of the kind to data, which come back with it."""
        data, batch = drawn
        model, changed = _given_parameters(self.fitted.model), _changed(self.fitted, self.part.n_obs)
        guide = made_anew(self.fitted.guide, "guide")
        given = self.covariates or None
        return refit(self.fitted, model, guide, data, self.fitted.seed, covariates=given, **changed), batch

    def quantities(self, fit: tuple[Fitted, RowBatch], draws: int, seed: int) -> dict[str, np.ndarray]:
        """Draws of what is ranked."""
        again, batch = fit
        with running(again):
            torch.manual_seed(seed)
            found = [self._values(q, batch) for q in guide_draws(again.guide, batch, draws)]
        return {name: np.array([values[name] for values in found]) for name in found[0]}

    def _values(self, drawn: Trace, batch: RowBatch) -> dict[str, float]:
        """Expectations of the cells and the log-likelihood of a batch, latents being those of a trace."""
        latents = {name: drawn.nodes[name]["value"] for name in self.latents}
        whole = self._whole(batch)
        trace = poutine.trace(poutine.condition(self.fitted.model, data=latents)).get_trace(whole)
        (site,) = self._data(observed_sites(trace))
        expected, density = _expectations(site, batch), site["fn"].log_prob(site["value"]).double()
        if whole is not batch:
            density = density[batch.row * batch.n_cols + batch.col]
        row, col = self.cells
        at = zip(self.part.obs_names[row], self.part.var_names[col], expected[row, col].tolist(), strict=True)
        return {f"{i}, {j}": value for i, j, value in at} | {LOG_LIKELIHOOD: float(density.sum())}

    def _whole(self, batch: RowBatch) -> RowBatch:
        """All cells of entries that are missing; of whole rows, the batch."""
        if self.fitted.meaning["unstored"] == "zero":
            return batch
        b, n = len(batch.rows), batch.n_cols
        col = batch.cols.repeat(b)
        return replace(batch, crow=torch.arange(b + 1, device=col.device) * n, col=col, value=batch.dense().flatten())

    def _matrix(self, drawn: Trace) -> sp.csr_matrix:
        sites, x = self._data(latent_sites(drawn)), self.part.X
        if len(sites) != 1:
            raise PlatewiseError(
                f"Expected a model with one observed site, to draw data from, got {len(sites)}. Use "
                "simulation_calibration with a function that draws them."
            )
        value = sites[0]["value"].double().cpu().numpy()
        if not (np.isfinite(value).all() and np.abs(value).max() < LARGEST):
            raise PlatewiseError(
                "Expected data of some size from the model's prior, got numbers beyond 10^9: the prior is wide. Use "
                "simulation_calibration with a function that draws them from a narrower one."
            )
        if value.shape == x.data.shape:
            return sp.csr_matrix((value.astype(np.float32), x.indices, x.indptr), x.shape)
        return sp.csr_matrix(value.reshape(x.shape).astype(np.float32))

    def _data(self, sites: Mapping[str, Any]) -> list[Any]:
        """Sites of data among those that are drawn, or given."""
        of_data = (site for name, site in sites.items() if name not in self.latents)
        return [site for site in of_data if not site["infer"].get("_deterministic")]


def _expectations(site: Mapping[str, Any], batch: RowBatch) -> Tensor:
    """Expectations of all cells, (b, n_cols)."""
    try:
        mean: Tensor = site["fn"].mean
    except NotImplementedError as error:
        raise PlatewiseError(
            f"Expected a likelihood that knows its mean, got {type(site['fn']).__name__}. Use simulation_calibration "
            "with quantities of your own."
        ) from error
    return mean.reshape(len(batch.rows), batch.n_cols)


def _part(
    fitted: Fitted, data: ad.AnnData, rows: int, cols: int, covariates: Covariates | None, rng: np.random.Generator
) -> tuple[ad.AnnData, dict[str, np.ndarray]]:
    """Some rows and columns of the matrix with their entries, and covariates."""
    counts = np.bincount(data.X.indices, minlength=data.n_vars)
    per_column = any(data.n_vars in x.shape for x in fitted.model.state_dict().values())
    most = np.arange(data.n_vars) if per_column else np.sort(np.argsort(-counts, kind="stable")[:cols])
    with_entries = np.flatnonzero(np.diff(data.X[:, most].indptr))
    if len(with_entries) < 2:
        raise PlatewiseError("Expected 2 rows with entries among these columns at least, got fewer. Take more columns.")
    chosen = np.sort(rng.choice(with_entries, min(rows, len(with_entries)), replace=False))
    about = covariates_of(fitted, covariates, data.obs) if fitted.covariates else {}
    return data[chosen][:, most].copy(), {name: x[chosen] for name, x in about.items()}


def _batch(fitted: Fitted, data: ad.AnnData, about: Mapping[str, np.ndarray]) -> RowBatch:
    loader = RowLoader(MemoryRows(data.X), data.n_obs, 0, fitted.device, about, fitted.dtype)
    return loader.batch(np.arange(data.n_obs))


def _cells(part: ad.AnnData, seed: int) -> tuple[np.ndarray, np.ndarray]:
    n, m = part.shape
    row, col = np.divmod(np.random.default_rng(seed).choice(n * m, min(N_CELLS, n * m), replace=False), m)
    return row, col


def _given_parameters(model: nn.Module) -> nn.Module:
    """The model with its parameters given; where guides start is still read off data."""
    given = without_training(copy.deepcopy(model))
    if hasattr(model, "initialise"):
        given.__dict__["initialise"] = partial(_starts, model)
    return given


def _starts(model: nn.Module, batch: RowBatch) -> Any:
    like: Any = copy.deepcopy(model)
    return like.initialise(batch)


def _changed(fitted: Fitted, rows: int) -> dict[str, Any]:
    """Options that cannot be those of the fit on data so small."""
    if fitted.algorithm != "svi":
        return {"batch_rows": rows} if fitted.algorithm == "natural-gradient" else {}
    steps = int(fitted.history["step"].max()) if len(fitted.history) else MOST_STEPS
    steps = min(steps, MOST_STEPS)
    return {
        "batch_rows": rows,
        "epochs": steps,
        "min_steps": None,
        "max_steps": None,
        "validation": 0.0,
        "patience": None,
    }


def _in_words(fitted: Fitted, part: ad.AnnData, replicates: int) -> str:
    names = (type(fitted.model).__name__, type(fitted.guide).__name__, fitted.algorithm)
    of = "{} under {} by {}".format(*names)
    return f"{replicates} fits of {of} to data of {part.n_obs} x {part.n_vars} drawn from it, its parameters given"
