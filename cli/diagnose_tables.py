"""A diagnosis as tables: the verdict first, and then what it was made from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

from .output import print_table

if TYPE_CHECKING:
    import pandas as pd

    from ..posterior.calibration import Calibration
    from ..posterior.column_checks import ColumnChecks
    from ..posterior.diagnostics import Diagnosis
    from ..posterior.loo import SubsampledLoo

LEVEL = 0.9  # of coverage by tenth
OF_ENTRY = "log density of an entry"  # small: with more decimals than the rest
WORDS = {"log_predictive_density": "log density", "coverage": "90% interval", "crps": "CRPS", "rmse": "RMSE"}


def show(found: Diagnosis, title: str, about: Mapping[str, Any]) -> None:
    """Print a diagnosis.

    Args:
        found: The diagnosis.
        title: What it is of.
        about: The fit's `meaning`: what a row and a column are called.
    """
    lines = [(x.use, x.answer, x.why) for x in found.verdict]
    print_table(f"{title}: what this posterior may be used for", ("use", "", "why"), lines)
    if found.calibration is not None:
        _show_coverage(found.calibration)
        _show_tenths(found.calibration, about)
    if found.references is not None:
        _show_references(found.references, found.calibration)
    if found.k_hats is not None and len(found.k_hats):
        _show_k_hats(found.k_hats)
    if found.checks is not None:
        _show_checks(found.checks, about)
    if found.columns is not None:
        _show_columns(found.columns, about)
    if found.loo is not None:
        _show_loo(found.loo, about)
    if found.restarts is not None:
        _show_restarts(found.restarts)
    if found.simulation is not None:
        _show_simulation(found.simulation)
    for what in found.left_out:
        typer.echo(f"left out: {what}")


def _show_coverage(found: Calibration) -> None:
    table = found.table()
    lines = [
        (f"{100 * x['level']:.0f}%", f"{100 * x['coverage']:.1f}%", f"{100 * x['se']:.1f}%", "off" * x["off"])
        for x in table[table["by"] == "all"].to_dict("records")
    ]
    title = f"Coverage of {len(found.pit):,} held-out entries, {found.predictive}"
    print_table(title, ("interval", "inside", "standard error", ""), lines)
    if found.n_unknown:
        typer.echo(f"{found.n_unknown:,} of them are of ids that the fit never saw: they got the prior predictive.")
    typer.echo(f"PIT: Kolmogorov's distance from uniform {found.kolmogorov:.4f}\n")


def _show_tenths(found: Calibration, about: Mapping[str, Any]) -> None:
    """Coverage of the 90 % interval by tenth, each way of making tenths a column."""
    table = found.table()
    parts = {by: part for by, part in table[table["level"] == LEVEL].groupby("by", sort=False) if by != "all"}
    called = {"the row": f"the {about['row_name']}", "the column": f"the {about['col_name']}"}
    names = [found.sorted_by[str(by)] for by in parts]
    for plate, name in called.items():
        names = [x.replace(plate, name) for x in names]
    cells = [
        [f"{100 * x['coverage']:.1f}%" + " off" * x["off"] for x in part.to_dict("records")] for part in parts.values()
    ]
    se = 100 * max(float(part["se"].max()) for part in parts.values())
    print_table(
        f"Coverage of the 90% interval by tenth (1 lowest, 10 highest; standard error {se:.1f}%)",
        ("tenth", *names),
        [(str(k), *line) for k, line in enumerate(zip(*cells, strict=True), 1)],
    )


def _show_references(table: pd.DataFrame, judged: Calibration | None) -> None:
    from ..posterior.calibration import COUNTS_INSIDE

    shown = table.dropna(axis=1, how="all")
    lines = [[_cell(x) for x in line] for line in shown.itertuples(index=False, name=None)]
    print_table("Beside simple references", [WORDS.get(x, x) for x in shown.columns], lines)
    if judged is not None and judged.of_counts:
        typer.echo(f"Here, as in `evaluate`, {COUNTS_INSIDE}.\n")


def _cell(x: str | int | float) -> str:
    return x if isinstance(x, str) else f"{x:,.4f}" if isinstance(x, float) else f"{x:,}"


def _show_k_hats(table: pd.DataFrame) -> None:
    from ..posterior.k_hat import by_kind

    lines = [
        (x["what"], str(x["number"]), *(f"{x[v]:.2f}" for v in ("median", "largest", "threshold")), str(x["over"]))
        for x in by_kind(table).to_dict("records")
    ]
    header = ("of", "number", "median", "largest", "threshold", "over")
    print_table("Pareto k-hat, given everything else", header, lines)


def _show_checks(table: pd.DataFrame, about: Mapping[str, Any]) -> None:
    size, of = table.attrs, about["row_name"]
    lines = [(x[0], *(f"{v:.4g}" for v in x[1:4]), f"{x[4]:.3f}") for x in table.itertuples(index=False, name=None)]
    title = f"Replicated data: {size['draws']} times {size['entries']:,} entries of {size['rows']:,} {of}s"
    print_table(f"{title} (p: share of replications above the data)", table.columns, lines)


def _show_columns(found: ColumnChecks, about: Mapping[str, Any]) -> None:
    of = about["col_name"]
    shares = ", ".join(f"{x['statistic']} {100 * x['inside']:.1f}%" for x in found.shares().to_dict("records"))
    typer.echo(f"{of}s inside 95% of their replications, of {found.n_columns:,}: {shares}\n")
    lines = [
        (x["column"], x["statistic"], *(f"{x[v]:.4g}" for v in ("observed", "lower", "upper")), f"{x['distance']:+.1f}")
        for x in found.outermost().to_dict("records")
    ]
    header = (of, "statistic", "observed", "2.5%", "97.5%", "sd away")
    print_table(f"{of}s farthest from their replications", header, lines)


def _show_loo(found: SubsampledLoo, about: Mapping[str, Any]) -> None:
    n, size = found.n_all, len(found.pointwise)
    lines = [
        (what, *(f"{x:,.4f}" if what == OF_ENTRY else f"{x:,.1f}" for x in figures))
        for what, *figures in found.table().itertuples(index=False, name=None)
    ]
    title = f"Leave-one-out: {size:,} entries sampled, scaled to {n:,}"
    print_table(title, ("", "estimate", "standard error", "sampling error"), lines)
    if found.recalibrated is not None:
        typer.echo(f"Judged with {found.recalibrated}.")
    typer.echo(f"{found.meaning[0].upper()}{found.meaning[1:]}.")
    shares = " ".join(f"{100 * x:.0f}" for x in found.by_activity()["over"])
    of = f"by tenth of the {about['row_name']}s' activity, lowest first, in %: {shares}"
    typer.echo(f"k-hats over {found.threshold:.2f}: {found.over.sum():,} of {size:,}; {of}")
    if found.over.any():
        typer.echo("Densities of those entries are guesses: look at held-out ones.")
    typer.echo("")


def _show_restarts(table: pd.DataFrame) -> None:
    lines = [
        (str(x["seed"]), f"{x['elbo']:,.1f}", f"{x['elbo_difference']:,.1f}", f"{x['prediction_difference']:.4f}")
        for x in table.to_dict("records")
    ]
    header = ("seed", "ELBO", "difference", "of predictions, in their sd")
    print_table("Fits from other seeds, this one first", header, lines)


def _show_simulation(table: pd.DataFrame) -> None:
    lines = [(x["quantity"], f"{x['shift']:.3f}", f"{x['spread']:.2f}", x["says"]) for x in table.to_dict("records")]
    title = f"Ranks of the truth in fits to {table['replicates'].iloc[0]} small simulated data sets (uniform: 0 and 1)"
    print_table(title, ("quantity", "shift", "spread", ""), lines)
