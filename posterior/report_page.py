"""A page of sections, tables and figures as one HTML file that needs nothing else: no script, no network."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import matplotlib as mpl
import pandas as pd
from jinja2 import Environment
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Canvas

from .figure_style import AXES

STYLE: Any = {
    **AXES,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "svg.fonttype": "none",  # letters stay letters: small, and to be searched
    "svg.hashsalt": "platewise",
}


@dataclass(frozen=True)
class Head:
    """A column's name, and whether it holds numbers."""

    name: str
    number: bool


@dataclass(frozen=True)
class Table:
    """Cells as they are shown."""

    head: list[Head]
    rows: list[list[str]]


@dataclass(frozen=True)
class Figure:
    """A drawing, and what it shows."""

    svg: str
    caption: str


@dataclass(frozen=True)
class Answer:
    """What a posterior may be used for: "yes", "no" or "unknown", and why."""

    use: str
    answer: str
    why: str


@dataclass(frozen=True)
class Section:
    """A part of the page: texts, a verdict, something verbatim, figures, tables, in this order."""

    title: str
    texts: Sequence[str] = ()
    verdict: Sequence[Answer] = ()
    verbatim: str = ""
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = field(default_factory=list)


def page(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """The HTML of a page."""
    source = files(__package__).joinpath("report.html").read_text(encoding="utf-8")
    template = Environment(autoescape=True, trim_blocks=True).from_string(source)
    return template.render(title=title, subtitle=subtitle, sections=sections) + "\n"


def drawn(draw: Callable[[Axes], None], caption: str, size: tuple[float, float] = (6.2, 3.4)) -> Figure:
    """A figure by a function that draws on axes; the same drawing gives the same bytes."""
    with mpl.rc_context(STYLE):
        canvas = Canvas(figsize=size, layout="constrained")
        draw(canvas.subplots())
        text = io.StringIO()
        FigureCanvasSVG(canvas).print_svg(text, metadata={"Date": None, "Creator": None})
    return Figure(re.sub(r"^.*?(?=<svg)", "", text.getvalue(), flags=re.DOTALL), caption)


def tabled(frame: pd.DataFrame, digits: int = 3) -> Table:
    """A data frame's columns as a table."""
    head = [Head(str(name), bool(pd.api.types.is_numeric_dtype(frame[name]))) for name in frame]
    rows = [[shown(x, digits) for x in line] for line in frame.itertuples(index=False, name=None)]
    return Table(head, rows)


def shown(value: Any, digits: int = 3) -> str:
    """A value as a person reads it."""
    if isinstance(value, bool) or type(value).__name__ == "bool":
        return "yes" if value else "no"
    if isinstance(value, float) or hasattr(value, "dtype"):
        number = float(value)
        if number != number:
            return ""
        return f"{number:,.0f}" if number.is_integer() and abs(number) >= 1000 else f"{number:,.{digits}f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
