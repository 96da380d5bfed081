"""Pictures that ArviZ draws, of either major version, of leave-one-out and of replicated data."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from .containers import contain, resolved
from .loo import SubsampledLoo

REPLICATIONS = 50  # drawn as lines
NAME = "entry"
TEXT = 10  # points; ArviZ 0.x has its own sizes
PLAIN: Any = {"title": False}
SHOWN = 0.001, 0.999  # quantiles of what is observed and replicated, between which values are shown


def draw_loo_pit(axes: Axes, found: SubsampledLoo) -> None:
    """How far the distribution of leave-one-out PITs is from uniform, with what ArviZ says would be too far."""
    import arviz

    with _quiet():
        if _is_old():
            arviz.plot_loo_pit(**_places(found), ecdf=True, ax=axes, legend=False, textsize=TEXT)
        else:
            pit = xr.Dataset({NAME: (("at",), found.pointwise["pit"].to_numpy())})
            of_draws = (found.draws.below % 1 == 0).all()
            options: Any = {
                "method": "prit_c" if of_draws else "pot_c",  # the latter takes places of 0 and 1 for impossible
                "plot_collection": _on(axes, pit),
                "visuals": PLAIN | {"remove_axis": False},
            }
            arviz.plot_ecdf_pit(contain({"pit": pit}), group="pit", sample_dims=["at"], **options)
    axes.set(xlabel="place of the entry in its leave-one-out predictive distribution (PIT)", xlim=(0, 1))
    axes.set_ylabel("PIT less the share below it" if _is_old() else "share below a PIT, less the PIT")
    axes.set_title(f"Leave-one-out PITs of {len(found.pointwise):,} training entries: 0 where uniform")


def draw_loo_k(axes: Axes, found: SubsampledLoo) -> None:
    """Pareto k-hat of each sampled entry, rows with few training entries first."""
    import arviz

    with _quiet():
        result = arviz.loo(_container(found), pointwise=True, reff=1.0)
        if _is_old():
            arviz.plot_khat(result, ax=axes, textsize=TEXT)
        else:
            on = _on(axes, result.pareto_k.to_dataset(name="pareto_k"))
            arviz.plot_khat(result, plot_collection=on, visuals=PLAIN)
    axes.axhline(found.threshold, color="black", linestyle="--", linewidth=1)
    axes.set(xlabel="sampled entries, those of rows with few training entries first", ylabel="Pareto k-hat")
    axes.set_title(f"{found.over.sum():,} of {len(found.over):,} k-hats are over {found.threshold:.2f}")


def draw_replicated(axes: Axes, found: SubsampledLoo) -> None:
    """Cumulative distribution of the sampled entries, and of replications of them."""
    import arviz

    data, lines = _container(found), {"alpha": 0.3, "width": 0.7}
    with _quiet():
        if _is_old():
            options: Any = {"num_pp_samples": REPLICATIONS, "random_seed": 0, "mean": False, "legend": False}
            arviz.plot_ppc(data, "cumulative", ax=axes, textsize=TEXT, **options)
        else:
            drawn = data["posterior_predictive"].to_dataset().stack(sample=("chain", "draw"))
            on = _on(axes, drawn, {"overlay_ppc": ["sample"]})  # a line for each draw
            visuals = PLAIN | {"predictive_dist": lines, "remove_axis": False}
            arviz.plot_ppc_dist(data, kind="ecdf", plot_collection=on, num_samples=REPLICATIONS, visuals=visuals)
    seen = np.append(found.pointwise["value"], found.draws.replicated[:REPLICATIONS])
    axes.set(xlabel="value of an entry", ylabel="share at or below", xlim=np.quantile(seen, SHOWN))
    axes.set_title(f"{len(found.pointwise):,} training entries (black), and {REPLICATIONS} replications of them")


def _places(found: SubsampledLoo) -> dict[str, np.ndarray]:
    """PITs as ArviZ 0.x takes them: weights below an entry and above it. Of counts, it would not break ties itself."""
    pit = found.pointwise["pit"].to_numpy()
    with np.errstate(divide="ignore"):
        weights = np.log(np.stack([pit, 1 - pit], -1))
    return {"y": np.zeros(len(pit)), "y_hat": np.tile([-1.0, 1.0], (len(pit), 1)), "log_weights": weights}


def _container(found: SubsampledLoo) -> Any:
    """Draws as ArviZ takes them, whose weights are of exp(-log_likelihood): of the ratios, where they are corrected."""
    draws = {
        "log_likelihood": -found.draws.log_ratios,
        "posterior_predictive": found.draws.replicated,
        "posterior": found.draws.log_density.sum(1),  # looked at for the number of chains
    }
    groups = {
        group: xr.Dataset({NAME: (("chain", "draw", *["at"] * (x.ndim - 1)), x[None])}) for group, x in draws.items()
    }
    groups["observed_data"] = xr.Dataset({NAME: (("at",), found.pointwise["value"].to_numpy())})
    return contain(groups)


def _is_old() -> bool:
    return resolved("auto") == "InferenceData"


def _on(axes: Axes, data: xr.Dataset, aes: dict[str, list[str]] | None = None) -> Any:
    """ArviZ 1.x's plots on axes that are there, which it would make itself."""
    figure, (name,) = axes.figure, data.data_vars
    viz = {"/": xr.Dataset({"figure": ((), _boxed(figure))}), "plot": xr.Dataset({name: ((), _boxed(axes))})}
    plots: Any = import_module("arviz_plots")  # part of ArviZ 1.x alone
    return plots.PlotCollection(data, xr.DataTree.from_dict(viz), aes=aes, backend="matplotlib")


def _boxed(x: Any) -> np.ndarray:
    box = np.empty((), dtype=object)
    box[()] = x
    return box


@contextmanager
def _quiet() -> Iterator[None]:
    """What ArviZ warns of is what the pictures show, or how it uses matplotlib."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
