"""What a posterior may be used for, in plain words: one judgement per use, by rules that say their thresholds.

| use                                                 | yes, if                                                       |
|-----------------------------------------------------|---------------------------------------------------------------|
| point predictions                                   | smaller RMSE than every simple reference                      |
| description of new rows (a VAE)                     | higher log density than means by column                       |
| 50-95 % intervals, all together: of new entries     | coverage within 0.015, or 3 standard errors, at all 4 levels  |
| 50-95 % intervals, in every part                    | within 0.02, or 4 standard errors, in each tenth by activity, |
|                                                     | popularity and predicted value: of these 120 shares, one is   |
|                                                     | 3 errors off by chance alone, one time in four                |
| tail probabilities below 1 %: of new entries        | the outermost 1 % on either side, and 0.1 % where there are   |
|                                                     | 10,000, hold 2/3 to 3/2 of that, or within 3 standard errors  |
| uncertainty of expectations: intervals of a mean    | never by k-hat alone where rows, columns or globals are held  |
|                                                     | independent: unknown if at most one k-hat in ten is over the  |
|                                                     | threshold, else no; of a VAE's rows yes and no                |
| comparisons of rows, comparisons of columns         | at most one k-hat in ten is over the threshold, all else held |
| effects of globals                                  | as of expectations, and none may be over                      |
| new data like these                                 | posterior predictive p-values within 0.005 to 0.995           |
| conclusions that do not hang on the seed            | predictions of restarts differ by less than a tenth of a      |
|                                                     | predictive standard deviation                                 |
| intervals of this kind of fit, where its model is   | simulation-based calibration: no quantity whose ranks depart  |
| true                                                | from uniform at a level of 5 % for all of them together       |

Held-out entries decide what is said of entries, and k-hats what is said of latents: intervals of entries, mostly noise,
can be right where those of expectations are too narrow. The threshold of a k-hat from S draws is
min(1 - 1/log10 S, 0.7). Where the pieces for a rule are missing, the answer is "unknown", with what to give.

References:
    Vehtari, Simpson, Gelman, Yao and Gabry (2024), Pareto smoothed importance sampling.
    Yao, Vehtari, Simpson and Gelman (2018), Yes, but did it work? Evaluating variational inference.
"""

from __future__ import annotations

from .entry_rules import intervals_in_parts, intervals_together, new_data, point_predictions, tail_probabilities
from .judgement import Answer, Evidence, Judgement
from .posterior_rules import (
    comparisons_of_columns,
    comparisons_of_rows,
    effects_of_globals,
    restarts_agree,
    simulation_is_uniform,
    uncertainty_of_expectations,
)

__all__ = ["RULES", "Answer", "Evidence", "Judgement", "verdict"]

RULES = (
    point_predictions,
    intervals_together,
    intervals_in_parts,
    tail_probabilities,
    uncertainty_of_expectations,
    comparisons_of_rows,
    comparisons_of_columns,
    effects_of_globals,
    new_data,
    restarts_agree,
    simulation_is_uniform,
)


def verdict(evidence: Evidence) -> list[Judgement]:
    """One judgement per use, in the order of the rules.

    Restarts and simulations, which take time and are asked for, are judged where there are any.
    """
    return [judgement for rule in RULES if (judgement := rule(evidence)) is not None]
