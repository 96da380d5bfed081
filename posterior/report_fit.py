"""The parts of a report that a fit knows by itself: its model's story, what was fitted, how it ended, its factors."""

from __future__ import annotations

import inspect
import sys
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ..data.errors import PlatewiseError
from ..data.source import COUNT
from ..inference.fitted import Fitted
from ..inference.history import VALIDATION
from .effective_rank import supported_factors
from .factors import factors
from .figure_style import BLUE, ORANGE
from .report_page import Figure, Section, drawn, tabled

UNTESTED = "Nothing tested whether the fit had converged: look at the trace."


def model_section(fitted: Fitted) -> Section:
    """The generative story, from the docstring of the model's file; of its class where the file has none."""
    kind = type(fitted.model)
    text = inspect.getdoc(sys.modules.get(kind.__module__)) or inspect.getdoc(kind) or "The model's file says nothing."
    story = text.split("\nReferences:")[0].split("\nSites:")[0]
    return Section(f"The model: {kind.__name__}", verbatim=story.strip())


def fit_section(fitted: Fitted) -> Section:
    """What was fitted on what."""
    row, col = fitted.meaning["row_name"], fitted.meaning["col_name"]
    n = int(fitted.obs[COUNT].sum())
    gaps = "observed zeros" if fitted.meaning["unstored"] == "zero" else "missing"
    lines = {
        "data": f"{fitted.n_rows:,} {row}s, {fitted.n_cols:,} {col}s, {n:,} stored entries; the others are {gaps}",
        "fingerprint": fitted.fingerprint,
        "model": _settings(fitted.model),
        "guide": _settings(fitted.guide),
        "algorithm": f"{fitted.algorithm}; {_named(fitted.options)}",
        "seed": str(fitted.seed),
    }
    if fitted.recalibration is not None:
        lines["recalibrated"] = fitted.recalibration.in_words()
    return Section("What was fitted", tables=[tabled(pd.DataFrame(lines.items(), columns=["", "what"]))])


def ending_section(fitted: Fitted) -> Section:
    """Why the fit stopped, and the trace of its bound."""
    states = {True: "The fit converged.", False: "The fit did not converge.", None: UNTESTED}
    texts = [f"It stopped because: {fitted.stopped}.", states[fitted.converged]]
    if not len(fitted.history):
        return Section("How the fit ended", texts)
    texts.append(
        f"ELBO {fitted.elbo:,.1f} nats: a lower bound of the log evidence of all the data, "
        f"after {fitted.history['seconds'].iloc[-1]:,.1f} s of training."
    )
    return Section("How the fit ended", texts, figures=_traces(fitted.history))


def factor_section(fitted: Fitted) -> Section | None:
    """How much each factor moves predictions; None of models without factors."""
    if not hasattr(fitted.model, "factor_sites"):
        return None
    try:
        strength = factors(fitted).strength
    except PlatewiseError as error:
        return Section("Factors", [f"Not to be had: {error}"])
    return Section(
        "Factors", [f"{_ranks(fitted, len(strength))} Factors are in their canonical frame: raw ones mean nothing."],
        figures=[drawn(lambda axes: _strengths(axes, strength), "Second moment of each factor's part of an entry.")],
    )  # fmt: skip


def _ranks(fitted: Fitted, rank: int) -> str:
    found = supported_factors(fitted)
    return f"{rank} factors." if found is None else f"The data support {found} of {rank} factors."


def _settings(module: Any) -> str:
    settings = {name: x for name, x in getattr(module, "config", {}).items() if x is not None}
    return f"{type(module).__name__}({_named(settings)})"


def _named(values: dict[str, Any]) -> str:
    def plain(x: Any) -> str:
        return _settings(x) if hasattr(x, "config") else str(x)

    return ", ".join(f"{name}={plain(x)}" for name, x in values.items() if x is not None)


def _traces(history: pd.DataFrame) -> list[Figure]:
    """The whole trace, and its last half, which the first epochs flatten."""
    half = history.iloc[len(history) // 2 :]
    found = [drawn(lambda axes: _trace(axes, history), "The bound after each epoch (or sweep), in nats.")]
    if len(half) >= 3:
        found.append(drawn(lambda axes: _trace(axes, half), "Its last half."))
    return found


def _trace(axes: Axes, history: pd.DataFrame) -> None:
    axes.plot(history["epoch"], history["elbo"], color=BLUE, marker=".", label="ELBO, all training data (nats)")
    axes.set(xlabel="epoch", ylabel="nats")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.grid(alpha=0.25)
    if VALIDATION in history and history[VALIDATION].notna().any():
        held = axes.twinx()
        held.plot(history["epoch"], history[VALIDATION], color=ORANGE, marker=".", label="rows held out")
        held.set_ylabel("nats per row held out", color=ORANGE)
    axes.legend(loc="lower right", frameon=False)


def _strengths(axes: Axes, strength: np.ndarray) -> None:
    axes.bar(np.arange(1, len(strength) + 1), strength, color=BLUE)
    axes.set(xlabel="factor, strongest first", ylabel="second moment")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", alpha=0.25)
