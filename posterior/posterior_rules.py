"""Uses of a posterior that k-hats, restarts and simulations decide: the latents themselves, and what is made of them.

A k-hat is of some latents given all others at one draw. Where a guide holds rows, columns and globals independent,
marginal standard deviations can be too small with every k-hat in order: of 30 x 20 ratings that of the grand mean is
0.14 of a Gibbs sampler's at a k-hat of 0.39 (`benchmarks/against_mcmc.py small`). So a k-hat can say no of expectations
and globals, and yes only where nothing else is unknown: of the rows of a VAE, whose parameters are numbers.
"""

from __future__ import annotations

import math

import pandas as pd

from .judgement import Evidence, Judgement, yes_if
from .k_hat import over_threshold

MAY_BE_OVER = 0.1  # share of k-hats that may be over the threshold
UNIFORM = "no departure seen"  # what a simulation says of ranks that may be uniform
SHIFT = 0.1  # of predictions between restarts, in predictive standard deviations
WITHOUT_K_HATS = "no k-hat of these was computed: give the training data"
TOO_SMALL = "take standard deviations for orders of magnitude at best, as a rule too small"
UNSEEN = (
    "but each is given all else: standard deviations leave out how rows, columns and globals depend on each other, and "
    "are as a rule too small"
)


def uncertainty_of_expectations(evidence: Evidence) -> Judgement:
    """Whether standard deviations and intervals of expected values, noise left out, are those of the posterior."""
    use = "uncertainty of expectations"
    hats = _k_hats(evidence, "functional")
    hats = _k_hats(evidence, "row") if hats is None else hats
    if hats is None:
        return Judgement(use, "unknown", WITHOUT_K_HATS)
    figures = f"k-hats: {_in_words(hats)} (up to {100 * MAY_BE_OVER:.0f} % may be)"
    if not _pass(hats):
        return Judgement(use, "no", f"{figures}: {TOO_SMALL}")
    if _of_one_kind(evidence):
        return Judgement(use, "yes", f"{figures}, given the model's parameters")
    return Judgement(use, "unknown", f"{figures}, {UNSEEN}")


def comparisons_of_rows(evidence: Evidence) -> Judgement:
    """Whether rows can be compared, and ranked, with how sure that is."""
    return _comparison(evidence, "row") or Judgement("comparisons of rows", "unknown", WITHOUT_K_HATS)


def comparisons_of_columns(evidence: Evidence) -> Judgement | None:
    """Whether columns can; nothing is said of a model that has no latents of theirs."""
    return _comparison(evidence, "column")


def _comparison(evidence: Evidence, what: str) -> Judgement | None:
    if (hats := _k_hats(evidence, what)) is None:
        return None
    use, figures = f"comparisons of {what}s", f"k-hats: {_in_words(hats)} (up to {100 * MAY_BE_OVER:.0f} % may be)"
    if _pass(hats):
        return Judgement(use, "yes", f"{figures}; given all else as fitted")
    return Judgement(use, "no", f"{figures}: an order by means may do, how sure it is does not")


def effects_of_globals(evidence: Evidence) -> Judgement | None:
    """Whether posteriors of global latents are right; nothing is said of a model that has none."""
    use, hats = "effects of globals", _k_hats(evidence, "global")
    if hats is None:
        return None
    figures = f"k-hats: {_in_words(hats)} (none may be)"
    if over_threshold(hats).any():
        return Judgement(use, "no", f"{figures}: {TOO_SMALL}")
    if _of_one_kind(evidence):
        return Judgement(use, "yes", figures)
    return Judgement(use, "unknown", f"{figures}, {UNSEEN}")


def restarts_agree(evidence: Evidence) -> Judgement | None:
    """Whether other seeds lead to the same predictions."""
    table = evidence.restarts
    if table is None:
        return None
    shift = float(table["prediction_difference"].max())
    figures = f"predictions of {len(table) - 1} other fits differ by {shift:.3f} of their standard deviation at most"
    return Judgement("conclusions that do not hang on the seed", yes_if(shift < SHIFT), figures)


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


def _k_hats(evidence: Evidence, *what: str) -> pd.DataFrame | None:
    """The k-hats of these, infinite where a density was no number; None where there are none."""
    if evidence.k_hats is None:
        return None
    found = evidence.k_hats[evidence.k_hats["what"].isin(what)]
    return None if found.empty else found.fillna({"k_hat": math.inf})


def _of_one_kind(evidence: Evidence) -> bool:
    """Whether k-hats are of all latents there are, so that there is nothing else that they are given."""
    table = evidence.k_hats
    if evidence.of_whole_rows or table is None:
        return evidence.of_whole_rows
    return table["what"].nunique() == 1 and not table.attrs.get("left_out")


def _pass(hats: pd.DataFrame) -> bool:
    return float(over_threshold(hats).mean()) <= MAY_BE_OVER


def _in_words(hats: pd.DataFrame) -> str:
    n, over = len(hats), int(over_threshold(hats).sum())
    return f"{over} of {n} over {hats['threshold'].min():.2f}, largest {hats['k_hat'].max():.2f}"
