"""The figures of a diagnosis: coverage by tenth, places of held-out entries in their predictives, and k-hats."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from .calibration import Calibration
from .figure_style import BLUE, GREEN, GREY, ORANGE
from .k_hat import over_threshold

LEVEL = 0.9
SERIES = (("row", BLUE, "o", -0.16), ("column", ORANGE, "s", 0.0), ("predicted", GREEN, "^", 0.16))
COLOURS = {"row": BLUE, "column": ORANGE, "functional": GREEN, "global": GREY}
SHOWN = -0.5, 2.0  # k-hats outside are drawn at the edge


def frame_tenths(axes: Axes, of: str) -> None:
    """The 90 % that intervals should hold in every tenth, behind what they do hold, and the axes of both.

    Args:
        axes: Where the shares are drawn already.
        of: What is inside, in the plural.
    """
    axes.axhline(100 * LEVEL, color=GREY, linestyle="--", linewidth=1, label="nominal: 90 %", zorder=1.9)
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, 87.0), max(high, 93.0))
    axes.set_xticks(range(1, 11))
    axes.set_ylabel(f"{of} inside the 90 % interval (%)")
    axes.grid(axis="y", alpha=0.25)


def draw_tenths(axes: Axes, found: Calibration) -> None:
    """Coverage of the 90 % interval by tenth, with bars of 2 binomial standard errors."""
    table = found.table().query("level == @LEVEL and n > 0")
    for by, color, marker, shift in SERIES:
        part = table[table["by"] == by]
        axes.errorbar(
            part["part"] + shift, 100 * part["coverage"], 200 * part["se"], color=color, marker=marker,
            markersize=4.5, linestyle="none", capsize=2.5, label=f"by {found.sorted_by[by]}",
        )  # fmt: skip
    frame_tenths(axes, "entries")
    axes.set(xlabel="tenth of the held-out entries (1: lowest, 10: highest)")
    overall = 100 * table[table["by"] == "all"]["coverage"].iloc[0]
    axes.set_title(f"{overall:.1f} % of {len(found.pit):,} held-out entries are inside")
    axes.legend(loc="best", frameon=False, fontsize=8, title="bars: 2 binomial standard errors", title_fontsize=8)


def draw_pit(axes: Axes, found: Calibration) -> None:
    """Histogram of the places of entries in their predictives, with the band that uniform ones would stay in."""
    table = found.pit_histogram()
    width, uniform, se = table["right"] - table["left"], 1 / len(table), table["se"].iloc[0]
    axes.bar(table["left"], 100 * table["share"], width, align="edge", color=BLUE, alpha=0.75, edgecolor="white")
    band = 100 * (uniform - 3 * se), 100 * (uniform + 3 * se)
    axes.axhspan(*band, color=ORANGE, alpha=0.35, label="uniform, give or take 3 binomial standard errors")
    axes.set(xlabel="place of the entry in its predictive distribution (PIT)", ylabel="entries (%)", xlim=(0, 1))
    axes.set_title(f"{found.kolmogorov:.3f} from uniform (Kolmogorov), of {len(found.pit):,} held-out entries")
    axes.set_ylim(0, 1.18 * max(100 * table["share"].max(), band[1]))
    axes.legend(loc="upper right", frameon=False)


def draw_k_hats(axes: Axes, table: pd.DataFrame) -> None:
    """Pareto k-hats by tenth of activity, or popularity, and the threshold."""
    spread = np.random.default_rng(0).uniform(-0.3, 0.3, len(table))
    place = table["decile"].fillna(0).to_numpy() + spread
    k_hat = table["k_hat"].fillna(np.inf).clip(*SHOWN).to_numpy()
    for what, color in COLOURS.items():
        of = (table["what"] == what).to_numpy()
        if of.any():
            axes.scatter(place[of], k_hat[of], s=16, color=color, alpha=0.7, label=f"{what} ({of.sum()})")
    threshold = float(table["threshold"].min())
    axes.axhline(threshold, color="black", linestyle="--", linewidth=1, label=f"threshold {threshold:.2f}")
    axes.set_xticks(range(11), ["global", *map(str, range(1, 11))])
    axes.set(xlabel="tenth by training entries (1: fewest, 10: most)", ylabel="Pareto k-hat, given all else")
    axes.set_ylim(min(-0.1, k_hat.min() - 0.1), max(1.1, k_hat.max()) + 0.3)
    axes.set_title(f"{over_threshold(table).sum()} of {len(table)} k-hats are over the threshold")
    axes.grid(axis="y", alpha=0.25)
    axes.legend(loc="upper left", frameon=False, ncols=3, fontsize=8)
