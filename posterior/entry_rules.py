"""Uses of a posterior that held-out entries and replicated data decide: predictions, their intervals, and tails.

Most of an entry's spread is noise, so that its interval can hold what it says where those of the latents do not: these
rules ask no k-hat.
"""

from __future__ import annotations

from .calibration import MARGIN, STANDARD_ERRORS
from .judgement import Evidence, Judgement, yes_if
from .row_references import FIT

ERRORS_OF_PARTS = 4.0  # standard errors that a share of a part may be off
P_VALUES = 0.005, 0.995  # of posterior predictive checks
FEW = 1000  # held-out entries below which there are not ten in a tail
WITHOUT_DATA = "the training data are not at hand: give data"


def point_predictions(evidence: Evidence) -> Judgement:
    """Whether the fit beats every simple reference, by RMSE, or of whole rows by log density."""
    use, table = "description of new rows" if evidence.of_whole_rows else "point predictions", evidence.references
    if table is None:
        return Judgement(use, "unknown", "no held-out entries and training data to compare with were given")
    scores = table.set_index("predictor")
    if evidence.of_whole_rows:
        density = scores["log_predictive_density"]
        best = str(density.drop(FIT).idxmax())
        figures = f"log density of a row at least {density[FIT]:,.1f} nats, against {density[best]:,.1f} of {best}"
        return Judgement(use, yes_if(bool(density[FIT] > density[best])), figures)
    best = str(scores["rmse"].drop(FIT).idxmin())
    own, other = float(scores["rmse"][FIT]), float(scores["rmse"][best])
    return Judgement(use, yes_if(own < other), f"RMSE {own:,.4f} against {other:,.4f} of {best}{_new(evidence)}")


def intervals_together(evidence: Evidence) -> Judgement:
    """Whether central intervals hold as many held-out entries as they say, over all of them."""
    use = "50-95 % intervals, all together"
    if evidence.calibration is None:
        return Judgement(use, "unknown", evidence.unjudged)
    table = evidence.calibration.table().query("by == 'all'")
    shares = ", ".join(f"{100 * x:.1f}" for x in table["coverage"])
    levels = ", ".join(f"{100 * x:.0f}" for x in table["level"])
    margin = f"{100 * MARGIN[True]:.1f} points or {STANDARD_ERRORS:.0f} standard errors off pass"
    figures = f"{shares} % of {table['n'].iloc[0]:,} inside, for {levels} % ({margin}){_new(evidence)}{_of(evidence)}"
    return Judgement(use, yes_if(not table["off"].any()), figures)


def intervals_in_parts(evidence: Evidence) -> Judgement:
    """Whether they do so in each tenth by what is known of the row, of the column, and by predicted value."""
    use = "50-95 % intervals, in every part"
    if evidence.calibration is None:
        return Judgement(use, "unknown", evidence.unjudged)
    table = evidence.calibration.table().query("by != 'all' and n > 0")
    off = table[table["off"] & ((table["coverage"] - table["level"]).abs() > ERRORS_OF_PARTS * table["se"])]
    n_off, n = (len(x[["by", "part"]].drop_duplicates()) for x in (off, table))
    margin = f"{100 * MARGIN[False]:.0f} points or {ERRORS_OF_PARTS:.0f} standard errors off pass"
    if off.empty:
        return Judgement(use, "yes", f"none of {n} tenths is off ({margin})")
    worst = off.iloc[int((off["coverage"] - off["level"]).abs().argmax())]
    share = f"{100 * worst['coverage']:.1f} % inside for {100 * worst['level']:.0f} %"
    where = f"tenth {worst['part']} by {evidence.calibration.sorted_by[worst['by']]}"
    return Judgement(use, "no", f"{n_off} of {n} tenths off ({margin}); worst: {share} in {where}")


def tail_probabilities(evidence: Evidence) -> Judgement:
    """Whether the outermost 1 % of held-out entries, and 0.1 % of many, are as many as they should be."""
    use, found = "tail probabilities below 1 %", evidence.calibration
    if found is None:
        return Judgement(use, "unknown", evidence.unjudged)
    if (n := len(found.pit)) < FEW:
        return Judgement(use, "unknown", f"{n} held-out entries are too few to tell")
    tails = found.tails()
    sides = tails.to_dict("records")
    said = [
        f"{100 * low['share']:.2f} and {100 * high['share']:.2f} % in the outermost {100 * low['nominal']:g} %"
        for low, high in zip(sides[::2], sides[1::2], strict=True)
    ]
    figures = f"of {n:,} held-out entries {', '.join(said)} on either side (2/3 to 3/2 of that passes)"
    return Judgement(use, yes_if(not tails["off"].any()), figures)


def new_data(evidence: Evidence) -> Judgement:
    """Whether data drawn from the fit look like the data, by every statistic."""
    use, table = "new data like these", evidence.checks
    if table is None:
        return Judgement(use, "unknown", WITHOUT_DATA)
    off = table[(table["p"] < P_VALUES[0]) | (table["p"] > P_VALUES[1])]
    if off.empty:
        return Judgement(use, "yes", f"all {len(table)} statistics of replicated data are like the data's")
    said = [f"{x.statistic} {x.observed:.3g} against {x.mean:.3g}" for x in off.itertuples()]
    return Judgement(use, "no", "; ".join(said))


def _new(evidence: Evidence) -> str:
    """What to say of entries that a fit knows nothing of but the prior."""
    found = evidence.calibration
    if found is None or not found.n_unknown:
        return ""
    return f"; {100 * found.n_unknown / len(found.pit):.3g} % of the entries are of rows or columns new to the fit"


def _of(evidence: Evidence) -> str:
    """Of what intervals are, where it is not of entries as they are."""
    found = evidence.calibration
    return f"; of {found.predictive.split(',')[0]}" if evidence.of_whole_rows and found is not None else ""
