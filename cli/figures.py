"""The figures of a fit: how it went, whether intervals hold, and predictions beside observations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..posterior.diagnosis_figures import frame_tenths
from ..posterior.figure_style import AXES, BLUE, ORANGE

if TYPE_CHECKING:
    import pandas as pd

    from ..posterior import Evaluation

NOMINAL = "0.9"


@contextmanager
def drawing(path: Path, size: tuple[float, float] = (7.0, 4.2)) -> Iterator[Axes]:
    """Axes to draw on, written as PNG; no global state of pyplot, no display."""
    with mpl.rc_context(AXES):
        figure = Figure(figsize=size, dpi=130, layout="constrained")
        axes = figure.subplots()
        yield axes
        FigureCanvasAgg(figure).print_png(path)


def draw_elbo(history: pd.DataFrame, n_entries: int, path: Path) -> None:
    """The bound per rating after each sweep, with the last half magnified.

    Args:
        history: A fit's history.
        n_entries: Training ratings.
        path: The PNG to write.
    """
    sweeps, bound = history["epoch"].to_numpy(), history["elbo"].to_numpy() / n_entries
    with drawing(path) as axes:
        axes.plot(sweeps, bound, color=BLUE, marker="o", markersize=3, label="ELBO, exact")
        axes.set(xlabel="sweep (all users, then all items)", ylabel="ELBO per training rating (nats)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_title(
            f"The fit: {bound[-1]:.4f} nats per rating after {history['seconds'].iloc[-1]:.1f} s of training"
        )
        axes.grid(alpha=0.25)
        axes.legend(loc="upper left", frameon=False)
        half = len(sweeps) // 2
        if half >= 3:
            inset = axes.inset_axes((0.45, 0.12, 0.5, 0.45))
            inset.plot(sweeps[half:], bound[half:], color=BLUE, marker="o", markersize=2.5)
            inset.xaxis.set_major_locator(MaxNLocator(integer=True))
            inset.set_title("the last half", fontsize=9)
            inset.tick_params(labelsize=8)
            inset.grid(alpha=0.25)


def draw_coverage(scores: Evaluation, path: Path) -> None:
    """Coverage of the 90 % interval by tenth of the test ratings, with binomial 95 % error bars.

    Args:
        scores: An evaluation.
        path: The PNG to write.
    """
    series = (
        ("by activity of the user", scores.coverage_by_row_decile[NOMINAL], BLUE, "o", -0.1),
        ("by popularity of the item", scores.coverage_by_col_decile[NOMINAL], ORANGE, "s", 0.1),
    )
    with drawing(path) as axes:
        for label, values, color, marker, shift in series:
            share = np.array(values, dtype=float)
            error = 1.96 * np.sqrt(share * (1 - share) / (scores.n / 10))
            axes.errorbar(
                np.arange(1, 11) + shift, 100 * share, 100 * error, color=color, marker=marker, markersize=5,
                linestyle="none", capsize=3, label=label,
            )  # fmt: skip
        frame_tenths(axes, "ratings")
        axes.set(xlabel="tenth of the test ratings (1: fewest training ratings, 10: most)")
        overall = 100 * scores.coverage[NOMINAL]
        axes.set_title(f"Do the intervals hold? {overall:.1f} % of {scores.n:,} held-out ratings are inside")
        axes.legend(loc="lower right", frameon=False, title="bars: binomial 95 % intervals", title_fontsize=8)


def draw_predicted(predicted: pd.DataFrame, observed: np.ndarray, path: Path) -> None:
    """Observed ratings against their predictive means, as counts, with the mean and the interval of each stripe.

    Args:
        predicted: `mean`, `lower` and `upper` of each held-out rating.
        observed: The ratings (n_entries,).
        path: The PNG to write.
    """
    mean = predicted["mean"].to_numpy()
    bounds = np.quantile(mean, np.linspace(0, 1, 21))
    stripe = np.clip(np.searchsorted(bounds, mean, side="right") - 1, 0, 19)
    size = np.maximum(np.bincount(stripe, minlength=20), 1)
    x, y, low, high = (
        np.bincount(stripe, weights=v, minlength=20) / size
        for v in (mean, observed, predicted["lower"].to_numpy(), predicted["upper"].to_numpy())
    )
    low_x, high_x = np.quantile(mean, [0.0005, 0.9995])
    low_y, high_y = np.quantile(observed, [0.0005, 0.9995])
    rmse = float(np.sqrt(np.mean((observed - mean) ** 2)))
    with drawing(path, (7.0, 5.2)) as axes:
        bins = axes.hexbin(
            mean, observed, gridsize=60, extent=(low_x, high_x, low_y, high_y), bins="log", mincnt=1,
            cmap="Blues", linewidths=0.1,
        )  # fmt: skip
        axes.figure.colorbar(bins, ax=axes, label="held-out ratings per cell")
        axes.plot(
            (low_x, high_x), (low_x, high_x), color="black", linestyle=":", linewidth=1.2, label="perfect prediction"
        )
        axes.plot(x, y, color=ORANGE, marker="o", markersize=4, label="mean observed, by twentieth")
        axes.plot(x, low, color=ORANGE, linewidth=1.6, linestyle="--", label="90 % predictive interval")
        axes.plot(x, high, color=ORANGE, linewidth=1.6, linestyle="--")
        axes.set(xlim=(low_x, high_x), ylim=(low_y, high_y))
        axes.set(xlabel="predicted rating (predictive mean)", ylabel="observed rating")
        axes.set_title(f"Predicted against observed: RMSE {rmse:.3f} over {len(observed):,} held-out ratings")
        axes.legend(loc="upper left", framealpha=0.9)
