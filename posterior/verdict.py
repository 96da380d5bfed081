"""What a posterior may be used for, in plain words: one judgement per use, by rules that say their thresholds.

| use                                                 | yes, if                                                       |
|-----------------------------------------------------|---------------------------------------------------------------|
| point predictions                                   | smaller RMSE than every simple reference                      |
| description of new rows (a VAE)                     | higher log density than means by column                       |
| 50-95 % intervals, all together                     | coverage within 0.015, or 3 standard errors, at all 4 levels  |
| 50-95 % intervals, in every part                    | within 0.02, or 4 standard errors, in each tenth by activity, |
|                                                     | popularity and predicted value: of these 120 shares, one is   |
|                                                     | 3 errors off by chance alone, one time in four                |
| tail probabilities below 1 %                        | the outermost 1 % on either side hold 2/3 to 3/2 of that, or  |
|                                                     | 3 standard errors; at most one row or expected value in ten   |
|                                                     | has a k-hat over the threshold                                |
| comparisons of rows                                 | at most one row in ten has a k-hat over the threshold         |
| effects of globals                                  | no global has                                                 |
| new data like these                                 | posterior predictive p-values within 0.005 to 0.995           |
| conclusions that do not hang on the seed            | predictions of restarts differ by less than a tenth of a      |
|                                                     | predictive standard deviation                                 |
| intervals of this kind of fit, where its model is   | simulation-based calibration: no quantity whose ranks depart  |
| true                                                | from uniform at a level of 5 % for all of them together       |

The threshold of a k-hat from S draws is min(1 - 1/log10 S, 0.7). Where the pieces for a rule are missing, the answer is
"unknown", with what to give.

References:
    Vehtari, Simpson, Gelman, Yao and Gabry (2024), Pareto smoothed importance sampling.
    Yao, Vehtari, Simpson and Gelman (2018), Yes, but did it work? Evaluating variational inference.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from .calibration import Calibration
from .k_hat import over_threshold
from .row_references import FIT

Answer = Literal["yes", "no", "unknown"]

ROWS_OVER = 0.1  # share of rows whose k-hat may be over the threshold
ERRORS_OF_PARTS = 4.0  # standard errors that a share of a part may be off
P_VALUES = 0.005, 0.995  # of posterior predictive checks
UNIFORM = "no departure seen"  # what a simulation says of ranks that may be uniform
FEW = 1000  # held-out entries below which there are not ten in a tail
SHIFT = 0.1  # of predictions between restarts, in predictive standard deviations
WITHOUT_TEST = "no held-out entries were given: give a test part"
WITHOUT_DATA = "the training data are not at hand: give data"


@dataclass(frozen=True)
class Judgement:
    """Whether a posterior may be put to a use.

    Attributes:
        use: The use.
        answer: "yes", "no" or "unknown".
        why: The figures that say so.
    """

    use: str
    answer: Answer
    why: str


@dataclass(frozen=True, eq=False)
class Evidence:
    """The pieces that a verdict is made from; None where there is none.

    Attributes:
        calibration: Of held-out entries.
        references: Of the same entries, or rows; the fit's own scores come first.
        checks: Posterior predictive checks.
        k_hats: Pareto k-hat by row, column, global, and expected value.
        restarts: Fits from other seeds, with `prediction_difference`.
        simulation: By quantity, what its ranks say; of small data sets.
        of_whole_rows: Whether the fit describes rows (a VAE), and no held-out entries of them one by one.
    """

    calibration: Calibration | None = None
    references: pd.DataFrame | None = None
    checks: pd.DataFrame | None = None
    k_hats: pd.DataFrame | None = None
    restarts: pd.DataFrame | None = None
    simulation: pd.DataFrame | None = None
    of_whole_rows: bool = False


def verdict(evidence: Evidence) -> list[Judgement]:
    """One judgement per use, in the order of the rules.

    Restarts and simulations, which take time and are asked for, are judged where there are any.
    """
    return [judgement for rule in RULES if (judgement := rule(evidence)) is not None]


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
        return Judgement(use, _answer(bool(density[FIT] > density[best])), figures)
    best = str(scores["rmse"].drop(FIT).idxmin())
    own, other = float(scores["rmse"][FIT]), float(scores["rmse"][best])
    return Judgement(use, _answer(own < other), f"RMSE {own:.4g} against {other:.4g} of {best}{_new(evidence)}")


def intervals_together(evidence: Evidence) -> Judgement | None:
    """Whether central intervals hold as many held-out entries as they say, over all of them."""
    use = "50-95 % intervals, all together"
    if evidence.of_whole_rows:
        return None
    if evidence.calibration is None:
        return Judgement(use, "unknown", WITHOUT_TEST)
    table = evidence.calibration.table().query("by == 'all'")
    shares = ", ".join(f"{100 * x:.1f}" for x in table["coverage"])
    levels = ", ".join(f"{100 * x:.0f}" for x in table["level"])
    figures = f"{shares} % of {table['n'].iloc[0]:,} inside, for {levels} %{_new(evidence)}"
    return Judgement(use, _answer(not table["off"].any()), figures)


def intervals_in_parts(evidence: Evidence) -> Judgement | None:
    """Whether they do so in each tenth by activity, popularity and predicted value."""
    use = "50-95 % intervals, in every part"
    if evidence.of_whole_rows:
        return None
    if evidence.calibration is None:
        return Judgement(use, "unknown", WITHOUT_TEST)
    table = evidence.calibration.table().query("by != 'all' and n > 0")
    off = table[table["off"] & ((table["coverage"] - table["level"]).abs() > ERRORS_OF_PARTS * table["se"])]
    if off.empty:
        return Judgement(use, "yes", "no tenth by activity, popularity or predicted value is off")
    worst = off.iloc[int((off["coverage"] - off["level"]).abs().argmax())]
    where = f"{len(off[['by', 'part']].drop_duplicates())} of {len(table[['by', 'part']].drop_duplicates())} tenths off"
    share = f"{100 * worst['coverage']:.1f} % inside for {100 * worst['level']:.0f} %"
    return Judgement(use, "no", f"{where}; worst: {share} in tenth {worst['part']} by {_BY[worst['by']]}")


def tail_probabilities(evidence: Evidence) -> Judgement:
    """Whether small probabilities are right: those of held-out entries, and the k-hats of what they are made from."""
    answers, figures = _of_tails(evidence.calibration)
    hats = _k_hats(evidence, "functional", "row")
    if hats is not None:
        answers.append("yes" if _share_over(hats) <= ROWS_OVER else "no")
        figures.append(f"k-hats: {_in_words(hats)}")
    answer: Answer = "no" if "no" in answers else "unknown" if "unknown" in answers else "yes"
    return Judgement("tail probabilities below 1 %", answer, "; ".join(figures))


def _of_tails(found: Calibration | None) -> tuple[list[Answer], list[str]]:
    if found is None:
        return ["unknown"], ["no held-out entries were judged"]
    tails, n = found.tails(), len(found.pit)
    if n < FEW:
        return ["unknown"], [f"{n} held-out entries are too few to tell"]
    lower, upper = (f"{100 * x:.2f} %" for x in tails["share"])
    figures = f"{lower} of held-out entries in the lower 1 %, {upper} in the upper"
    return [_answer(not tails["off"].any())], [figures]


def comparisons_of_rows(evidence: Evidence) -> Judgement:
    """Whether posteriors of rows, given all else, are what they should be, for nine rows in ten."""
    use, hats = "comparisons of rows", _k_hats(evidence, "row")
    if hats is None:
        return Judgement(use, "unknown", "no k-hat of a row was computed")
    return Judgement(use, _answer(_share_over(hats) <= ROWS_OVER), f"k-hats of rows, given all else: {_in_words(hats)}")


def effects_of_globals(evidence: Evidence) -> Judgement | None:
    """Whether posteriors of global latents are; nothing is said of a model that has none."""
    hats = _k_hats(evidence, "global")
    if hats is None:
        return None
    figures = f"k-hats of globals, given rows and columns: {_in_words(hats)}"
    return Judgement("effects of globals", _answer(_share_over(hats) == 0), figures)


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


def restarts_agree(evidence: Evidence) -> Judgement | None:
    """Whether other seeds lead to the same predictions."""
    table = evidence.restarts
    if table is None:
        return None
    shift = float(table["prediction_difference"].max())
    figures = f"predictions of {len(table) - 1} other fits differ by {shift:.3f} of their standard deviation at most"
    return Judgement("conclusions that do not hang on the seed", _answer(shift < SHIFT), figures)


def simulation_is_uniform(evidence: Evidence) -> Judgement | None:
    """Whether true values rank uniformly among draws of fits to data simulated with them."""
    use, table = "intervals of this kind of fit, where its model is true", evidence.simulation
    if table is None:
        return None
    departs = table[table["says"] != UNIFORM]
    figures = f"{table['replicates'].iloc[0]} small data sets, {len(table)} quantities: "
    if departs.empty:
        return Judgement(use, "yes", f"{figures}{UNIFORM}, which few replicates do not prove")
    said = "; ".join(f"{x['quantity']}: {x['says']}" for x in departs.to_dict("records"))
    return Judgement(use, "no", figures + said)


RULES = (
    point_predictions,
    intervals_together,
    intervals_in_parts,
    tail_probabilities,
    comparisons_of_rows,
    effects_of_globals,
    new_data,
    restarts_agree,
    simulation_is_uniform,
)
_BY = {"row": "activity of the row", "column": "popularity of the column", "predicted": "predicted value"}


def _answer(holds: bool) -> Answer:
    return "yes" if holds else "no"


def _k_hats(evidence: Evidence, *what: str) -> pd.DataFrame | None:
    """The k-hats of these, infinite where a density was no number; None where there are none."""
    if evidence.k_hats is None:
        return None
    found = evidence.k_hats[evidence.k_hats["what"].isin(what)]
    return None if found.empty else found.fillna({"k_hat": math.inf})


def _new(evidence: Evidence) -> str:
    """What to say of entries that a fit knows nothing of but the prior."""
    found = evidence.calibration
    if found is None or not found.n_unknown:
        return ""
    return f"; {100 * found.n_unknown / len(found.pit):.3g} % of the entries are of rows or columns new to the fit"


def _share_over(hats: pd.DataFrame) -> float:
    return float(over_threshold(hats).mean())


def _in_words(hats: pd.DataFrame) -> str:
    n, over = len(hats), int(over_threshold(hats).sum())
    return f"{over} of {n} over {hats['threshold'].min():.2f}, largest {hats['k_hat'].max():.2f}"
