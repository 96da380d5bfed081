"""A fitted posterior for ArviZ: draws, predictive draws, densities, and what made them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pyro
import torch
import xarray as xr

from ..data.errors import PlatewiseError
from ..inference.fitted import Fitted
from .blocks import Request
from .canonical import PARTS, Frame, canonical_frame, has_factors
from .containers import Container, contain, resolved
from .covariates import Covariates
from .draws import draws, entry_site
from .held_out import held_out
from .joint import Joint, Variable, joint_draws
from .names import as_asked, require_known
from .noise import recalibrated
from .reader import Reader, reading
from .reshaped_draws import reshaped_draws

MAX_PREDICTED = 1 << 27  # draws times held-out entries: a gigabyte


def to_arviz(
    fitted: Fitted,
    rows: object | None = None,
    cols: object | None = None,
    n_draws: int = 1000,
    *,
    heldout: ad.AnnData | Path | str | None = None,
    data: ad.AnnData | Path | str | None = None,
    covariates: Covariates | None = None,
    canonical: bool = True,
    container: Container | str = "auto",
    seed: int = 0,
) -> Any:
    """Draws from a fitted posterior as an ArviZ object, in one chain: they are independent.

    Groups:

    - `posterior`: every global site, and the sites of the chosen rows and columns, whose ids are coordinates. Factors
      are in the canonical frame (`mu, A, a, B, b`), so that draws can be compared; learned scales are point estimates
      and not among the draws.
    - `sample_stats`, with chosen rows: `log_q`, the log density of a row's latents under the guide, and, with `data`,
      `log_p`, that of the row's latents and entries given everything else; for Pareto k-hat by row.
    - `posterior_predictive` and `observed_data`, with `heldout`: draws of those entries, and what they are. They come
      from draws of the latents of their own: draw i here does not belong to draw i of `posterior`.

    A recalibrated fit's `posterior_predictive` has the noise and the shape that the calibration split asked for, the
    shape by the ranks of its draws; `log_p` is of the model as it was fitted. The attribute `recalibration` says so.

    Args:
        fitted: The fit.
        rows: Ids of the rows to take along; none if left out.
        cols: Ids of the columns to take along.
        n_draws: Number of draws.
        heldout: A sample of held-out entries, or the path of their .h5ad.
        data: The training data; those of the fit where it still has them.
        covariates: Covariates of the rows, if the model takes any.
        canonical: Whether factors are put into their canonical frame.
        container: "InferenceData" (ArviZ 0.x), "DataTree" (ArviZ 1.x), or "auto": of the ArviZ installed.
        seed: Seed of the draws.

    Raises:
        PlatewiseError: On ids unknown to the fit, too many held-out entries, or data that are not the fit's.
    """
    kind = resolved(container)
    _refuse_whole_rows(fitted, heldout)
    if n_draws < 1:
        raise PlatewiseError(f"Expected at least 1 draw, got {n_draws}. 1000 is usual.")
    row_codes = _codes(rows, fitted.obs.index, fitted.meaning["row_name"])
    col_codes = _codes(cols, fitted.var.index, fitted.meaning["col_name"])
    request = None if heldout is None else _bounded(held_out(fitted, heldout), n_draws)
    data = fitted.data if data is None and len(row_codes) else data
    with reading(fitted, seed, covariates, data) as reader:
        joint = joint_draws(reader, row_codes, col_codes, n_draws)
        framed = canonical and has_factors(reader)
        if framed:
            joint = _in_frame(joint, canonical_frame(reader))
        groups = _groups(_Labels(fitted, row_codes, col_codes), joint)
        if request is not None:
            groups |= _predicted(reader, request, n_draws)
    about = _attributes(fitted, seed, framed)
    return contain({name: dataset.assign_attrs(about) for name, dataset in groups.items()}, kind)


@dataclass(frozen=True)
class _Labels:
    """Names of dimensions, and ids along them."""

    fitted: Fitted
    rows: np.ndarray
    cols: np.ndarray

    def ids(self, plate: str) -> np.ndarray:
        side = {"rows": (self.fitted.obs, self.rows, "row_ids"), "cols": (self.fitted.var, self.cols, "col_ids")}
        table, codes, kind = side[plate]
        return _plain(as_asked(table.index.to_numpy()[codes], self.fitted.meaning[kind]))

    def dim(self, plate: str, taken: Mapping[str, Any]) -> str:
        """What a row or column is called; a variable of that name would clash with its own coordinate."""
        name: str = self.fitted.meaning["row_name" if plate == "rows" else "col_name"]
        return f"{name}_id" if name in taken else name


def _codes(ids: object | None, index: Any, of: str) -> np.ndarray:
    return np.zeros(0, np.int64) if ids is None else require_known(ids, index, of)


def _refuse_whole_rows(fitted: Fitted, heldout: Any) -> None:
    if heldout is not None and fitted.meaning["unstored"] == "zero":
        raise PlatewiseError(
            "Expected no heldout= for a fit that takes entries not stored as zeros, got one, whose zeros would be left "
            "out. Do without; evaluate scores every cell."
        )


def _bounded(request: Request, n_draws: int) -> Request:
    if len(request) * n_draws > MAX_PREDICTED:
        raise PlatewiseError(
            f"Expected a held-out sample of at most {MAX_PREDICTED // n_draws} entries with {n_draws} draws, got "
            f"{len(request)}. Take a sample, or fewer draws."
        )
    return request


def _in_frame(joint: Joint, frame: Frame) -> Joint:
    """Factors and biases of every draw mapped to the canonical frame, in place of their blocks."""
    variables = {name: v for name, v in joint.variables.items() if name not in PARTS}
    variables["mu"] = Variable("global", -1, joint.variables["mu"].values + frame.shift)
    for block, by in (("user", frame.user), ("item", frame.item)):
        if block in joint.variables:
            (factor, bias), plate = PARTS[block], joint.variables[block].plate
            moved = by.draws(joint.variables[block].values)
            variables[factor] = Variable(plate, -2, moved[..., :-1])
            variables[bias] = Variable(plate, -1, moved[..., -1])
    return Joint(variables, joint.log_p, joint.log_q)


def _groups(labels: _Labels, joint: Joint) -> dict[str, xr.Dataset]:
    posterior = xr.Dataset({name: _array(name, v, labels, joint) for name, v in joint.variables.items()})
    groups = {"posterior": posterior}
    if len(labels.rows):
        densities = {"log_q": joint.log_q} | ({} if joint.log_p is None else {"log_p": joint.log_p})
        dim = labels.dim("rows", joint.variables)
        stats = {name: (("chain", "draw", dim), x[None]) for name, x in densities.items()}
        groups["sample_stats"] = xr.Dataset(stats, coords=_draw_coords(len(joint.log_q)) | {dim: labels.ids("rows")})
    return groups


def _array(name: str, variable: Variable, labels: _Labels, joint: Joint) -> xr.DataArray:
    values = variable.values
    coords, in_plate = _draw_coords(len(values)), variable.plate in ("rows", "cols")
    dims = [f"{name}_dim_{i}" for i in range(values.ndim - 1 - in_plate)]
    if in_plate:
        dim = labels.dim(variable.plate, joint.variables)
        dims.insert(values.ndim - 1 + variable.axis, dim)
        coords[dim] = labels.ids(variable.plate)
    return xr.DataArray(values[None], dims=("chain", "draw", *dims), coords=coords)


def _predicted(reader: Reader, request: Request, n: int) -> dict[str, xr.Dataset]:
    """Draws of held-out entries, and what was observed."""
    drawn = np.empty((1, n, len(request)), dtype=np.float32)
    name = ""
    for block in request.blocks(reader, len(request)):
        for i, trace in enumerate(draws(reader, block, n)):
            site = entry_site(trace, block)
            name = site["name"]
            drawn[0, i, block.at] = recalibrated(site, reader.fitted, block)["fn"].sample().cpu().numpy()
    drawn[0] = reshaped_draws(drawn[0], reader.fitted)
    ids = _entry_ids(reader.fitted, request)
    return {
        "posterior_predictive": xr.Dataset({name: (("chain", "draw", "entry"), drawn)}, _draw_coords(n) | ids),
        "observed_data": xr.Dataset({name: (("entry",), request.value)}, ids),
    }


def _entry_ids(fitted: Fitted, request: Request) -> dict[str, Any]:
    """Coordinates of entries: their number, and the ids of row and column."""
    sides = (
        (request.rows, fitted.obs.index, fitted.meaning["row_name"], fitted.meaning["row_ids"]),
        (request.cols, fitted.var.index, fitted.meaning["col_name"], fitted.meaning["col_ids"]),
    )
    coords: dict[str, Any] = {"entry": np.arange(len(request))}
    for side, index, name, kind in sides:
        names = np.concatenate([index.to_numpy(), np.array(side.new, dtype=object)])[side.code]
        coords[name] = ("entry", _plain(as_asked(names, kind)))
    return coords


def _draw_coords(n: int) -> dict[str, np.ndarray]:
    return {"chain": np.zeros(1, np.int64), "draw": np.arange(n)}


def _plain(ids: np.ndarray) -> np.ndarray:
    """Ids as arrays that netCDF knows."""
    return ids if ids.dtype.kind == "i" else ids.astype(str)


def _attributes(fitted: Fitted, seed: int, framed: bool) -> dict[str, Any]:
    return {
        "inference_library": "platewise",
        "inference_library_version": version("platewise"),
        "pyro_version": pyro.__version__,
        "torch_version": str(torch.__version__),
        "algorithm": fitted.algorithm,
        "model": type(fitted.model).__name__,
        "guide": type(fitted.guide).__name__,
        "fit_seed": fitted.seed,
        "draws_seed": seed,
        "elbo": fitted.elbo,
        "stopped": fitted.stopped,
        "converged": {True: "yes", False: "no", None: "not tested"}[fitted.converged],
        "training_data": fitted.fingerprint,
        "frame": "canonical" if framed else "as fitted",
        "recalibration": _recalibration(fitted),
    }


def _recalibration(fitted: Fitted) -> str:
    """What was recalibrated, and which draws have it."""
    if fitted.recalibration is None:
        return "none"
    by_rank = " (the shape by the ranks of its draws)" if fitted.recalibration.shape else ""
    return f"{fitted.recalibration.in_words()}: in posterior_predictive{by_rank}, not in log_p"
