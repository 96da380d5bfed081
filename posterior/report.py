"""A report of a fit: one page, one file, with what it is, how it ended, and how far it is to be trusted."""

from __future__ import annotations

from pathlib import Path

import anndata as ad

from ..data.errors import PlatewiseError
from ..data.writing import whole_file
from ..inference.fitted import Fitted
from .anomalies import anomalies
from .calibration import COUNTS_INSIDE
from .diagnosis_figures import draw_k_hats, draw_pit, draw_tenths
from .diagnostics import Diagnosis
from .k_hat import by_kind
from .report_fit import ending_section, factor_section, fit_section, model_section
from .report_page import Answer, Section, drawn, page, tabled

SURPRISES = 20
HOW_TO_READ = (
    "A 90 % interval should hold 90 % of held-out entries, in every part. Bars are binomial errors, as if entries were "
    "independent: the true ones are somewhat larger."
)


def report(
    fitted: Fitted,
    found: Diagnosis,
    path: Path | str,
    *,
    data: ad.AnnData | None = None,
    name: str = "",
    force: bool = False,
    seed: int = 0,
) -> None:
    """Write a report as one HTML file that needs nothing else: no script, no network.

    Args:
        fitted: The fit.
        found: Its diagnosis (`diagnose`).
        path: The file to write, whole or not at all.
        data: Data to look for surprises in, say those of the fit; none are looked for if None.
        name: What to call the fit.
        force: Whether to replace a file that is there.
        seed: Seed of the search for surprises.

    Raises:
        PlatewiseError: If the file is there and `force` is not set, or the disk refuses.
    """
    row, col = fitted.meaning["row_name"], fitted.meaning["col_name"]
    sections = [
        _verdict(found),
        model_section(fitted),
        fit_section(fitted),
        ending_section(fitted),
        _calibration(found),
        _references(found),
        _k_hats(found),
        _checks(found),
        _leave_one_out(found),
        factor_section(fitted),
        None if data is None else _surprises(fitted, data, seed),
    ]
    title = f"{name or type(fitted.model).__name__}: how far to trust it"
    subtitle = f"{type(fitted.model).__name__} of {fitted.n_rows:,} {row}s and {fitted.n_cols:,} {col}s"
    html = page(title, subtitle, [section for section in sections if section is not None])
    with whole_file(path, force=force) as temporary:
        temporary.write_text(html, encoding="utf-8")


def _verdict(found: Diagnosis) -> Section:
    texts = [f"Not looked at: {x}." for x in found.left_out]
    answers = [Answer(x.use, x.answer, x.why) for x in found.verdict]
    return Section("What this posterior may be used for", texts, answers)


def _calibration(found: Diagnosis) -> Section | None:
    if (judged := found.calibration) is None:
        return None
    table = judged.table()
    overall = table[table["by"] == "all"][["level", "coverage", "se", "n", "off"]]
    figures = [
        drawn(lambda axes: draw_tenths(axes, judged), "Coverage of the 90 % interval by tenth of the entries."),
        drawn(lambda axes: draw_pit(axes, judged), "A hump: too wide. A bowl: too narrow. A slope: too high or low."),
    ]
    texts = [f"Predictive judged: {judged.predictive}. {HOW_TO_READ}"]
    return Section("Do the intervals hold?", texts, figures=figures, tables=[tabled(overall)])


def _references(found: Diagnosis) -> Section | None:
    if found.references is None:
        return None
    texts = [
        "On the same held-out data. Log predictive density in nats, higher is better; CRPS, lower is better; coverage "
        "of 90 % intervals."
    ]
    if found.calibration is not None and found.calibration.of_counts:
        texts.append(f"Here {COUNTS_INSIDE}.")
    shown = found.references.dropna(axis=1, how="all").rename(columns=_spaced)
    return Section("Beside simple predictors", texts, tables=[tabled(shown)])


def _k_hats(found: Diagnosis) -> Section | None:
    if found.k_hats is None or not len(table := found.k_hats):
        return None
    texts = [
        "Pareto k-hat of blocks of latents, each given all else: over the threshold the guide does not reach that "
        "conditional. It does not show what the guide leaves out of how rows and columns depend on each other."
    ]
    figures = [drawn(lambda axes: draw_k_hats(axes, table), "A point a row, column, global or expected value.")]
    return Section("Does the guide reach the posterior?", texts, figures=figures, tables=[tabled(by_kind(table))])


def _checks(found: Diagnosis) -> Section | None:
    if found.checks is None:
        return None
    texts = [
        "Statistics of the data, and of data drawn anew from the fit; p is the share of draws with a larger one. The "
        "data were used twice, to fit and to check: only a p near 0 or 1 says something."
    ]
    return Section("Do data drawn from the fit look like the data?", texts, tables=[tabled(found.checks)])


def _leave_one_out(found: Diagnosis) -> Section | None:
    if (loo := found.loo) is None:
        return None
    n, over = len(loo.pointwise), int(loo.over.sum())
    texts = [
        f"Leave-one-out of {n:,} training entries, scaled to {loo.n_all:,}; no fit is repeated, and {loo.meaning}.",
        f"{over:,} of {n:,} k-hats ({over / n:.1%}) are over {loo.threshold:.2f}: densities of those are guesses.",
    ]
    if loo.recalibrated is not None:
        texts.append(f"Judged with {loo.recalibrated}.")
    shown = loo.table().rename(columns=_spaced)
    return Section("How well are entries predicted without themselves?", texts, tables=[tabled(shown)])


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def _surprises(fitted: Fitted, data: ad.AnnData, seed: int) -> Section:
    """The entries farthest out, or why there are none to be had."""
    title = "Largest surprises"
    try:
        table = anomalies(fitted, data, n=SURPRISES, seed=seed)
    except PlatewiseError as error:
        return Section(title, [f"Not looked for: {error}"])
    shown = table[["row", "col", "value", "expected", "sd"]].assign(p=table["tail_probability"].map("{:.1e}".format))
    shown = shown.rename(columns={"row": fitted.meaning["row_name"], "col": fitted.meaning["col_name"]})
    texts = ["Stored entries by how improbable their predictive distribution finds them, most surprising first."]
    return Section(title, texts, tables=[tabled(shown)])
