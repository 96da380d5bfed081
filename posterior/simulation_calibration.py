"""Simulation-based calibration: whether fits to data of known truth put the truth among their draws as they claim.

    theta* ~ p(theta),   y ~ p(y | theta*),   theta_1, ..., theta_L ~ q(theta | y)

If q is the posterior, the rank of a quantity f(theta*) among f(theta_1), ..., f(theta_L) is uniform on 0, ..., L over
replicates. Ranks at both ends (a U) are those of posteriors that are too narrow, ranks in the middle of such that are
too wide, ranks on one side of such that are off their place. The last is all that is asked of a variational posterior
that is meant for its location (VSBC), and has a test of its own.

References:
    Talts, Betancourt, Simpson, Vehtari and Gelman (2018), Validating Bayesian inference algorithms with
    simulation-based calibration.
    Yao, Vehtari, Simpson and Gelman (2018), Yes, but did it work? Evaluating variational inference (VSBC).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..data.errors import PlatewiseError
from ..data.seeds import require_seed
from .uniform_ranks import asymmetry_p, chi_squared_p, ecdf_p

LEVEL = 0.05  # of all quantities of a table together, by two tests of each
CLEAR = 0.05  # of the spread from 1: what departs otherwise is neither narrow nor wide

Simulate = Callable[[int], tuple[Any, Mapping[str, float]]]
Refit = Callable[[Any], Any]
Quantities = Callable[[Any, int, int], Mapping[str, np.ndarray]]


@dataclass(frozen=True, eq=False)
class SimulationCalibration:
    """Ranks of true values among posterior draws.

    Attributes:
        ranks: One line per replicate, one column per quantity: how many draws are below the truth, 0 to `draws`.
        draws: Draws of each replicate.
        about: What was simulated and fitted, in words.
    """

    ranks: pd.DataFrame
    draws: int
    about: str = ""

    def table(self) -> pd.DataFrame:
        """One line per quantity.

        - `replicates`;
        - `shift`: mean of the truth's place among the draws, from 0 to 1, less a half: above 0 where posteriors are too
          low;
        - `spread`: root mean square of the place less a half, 1 where it is uniform: above 1 where posteriors are too
          narrow (at most 1.73), below where they are too wide;
        - `chi_squared_p`, `ecdf_p`: p-values of uniform ranks, `asymmetry_p` of places as often above the middle as
          below;
        - `says`: what departs from uniform at a level of 5 % for all quantities together (Bonferroni), in words. That
          nothing does is no proof: few replicates show gross faults only.
        """
        lines = {name: _line(self.ranks[name].to_numpy(), self.draws) for name in self.ranks}
        table = pd.DataFrame.from_dict(lines, orient="index")
        table.insert(0, "replicates", len(self.ranks))
        table["says"] = [_in_words(line, LEVEL / (2 * len(table))) for line in table.to_dict("records")]
        return table.rename_axis("quantity")


def simulation_calibration(
    simulate: Simulate,
    refit: Refit,
    quantities: Quantities,
    *,
    replicates: int = 100,
    draws: int = 200,
    seed: int = 0,
) -> SimulationCalibration:
    """Ranks of true values among the draws of fits to simulated data.

    Args:
        simulate: Of a seed, data drawn from the model with latents drawn from its prior, and the true value of each
            quantity by name.
        refit: Of data, a fit: anything that `quantities` can read.
        quantities: Of a fit, a number of draws and a seed, independent draws (or all but) of each quantity by name.
        replicates: Simulated data sets.
        draws: Draws of each fit.
        seed: Seed of everything: of each replicate's data, draws, and ties.

    Raises:
        PlatewiseError: On fewer than 2 replicates or draws, or a quantity that is missing, is no number, or has another
            number of draws.
    """
    require_seed(seed)
    if replicates < 2 or draws < 2:
        raise PlatewiseError(
            f"Expected at least 2 replicates and 2 draws, got {replicates} and {draws}. Take, say, 100 and 200."
        )
    lines = []
    for of_data, of_draws in np.random.SeedSequence(seed).generate_state(2 * replicates).reshape(-1, 2).tolist():
        data, truth = simulate(of_data)
        drawn = quantities(refit(data), draws, of_draws)
        rng = np.random.default_rng(of_draws)
        lines.append({name: _rank(name, value, drawn, draws, rng) for name, value in truth.items()})
    return SimulationCalibration(pd.DataFrame(lines), draws)


def _rank(name: str, truth: float, drawn: Mapping[str, np.ndarray], draws: int, rng: np.random.Generator) -> int:
    """Draws below the truth; of those that are equal to it, a random number."""
    got = np.asarray(drawn.get(name, []), dtype=np.float64)
    if got.shape != (draws,) or not (np.isfinite(got).all() and np.isfinite(truth)):
        raise PlatewiseError(
            f"Expected {draws} finite draws of {name!r} and a finite true value, got draws of shape {got.shape} and "
            f"{truth}. Check `quantities` and `simulate`."
        )
    return int((got < truth).sum() + rng.integers((got == truth).sum() + 1))


def _line(ranks: np.ndarray, draws: int) -> dict[str, float]:
    off = (ranks + 0.5) / (draws + 1) - 0.5
    return {
        "shift": float(off.mean()),
        "spread": float(np.sqrt(12 * (off**2).mean())),
        "chi_squared_p": chi_squared_p(ranks, draws),
        "ecdf_p": ecdf_p(ranks, draws),
        "asymmetry_p": asymmetry_p(ranks, draws),
    }


def _in_words(line: Mapping[Any, Any], level: float) -> str:
    if line["asymmetry_p"] < level:
        return f"posteriors are too {'low' if line['shift'] > 0 else 'high'}"
    if line["ecdf_p"] < level:
        clear = abs(line["spread"] - 1) > CLEAR
        return f"posteriors are too {'narrow' if line['spread'] > 1 else 'wide'}" if clear else "ranks are not uniform"
    return "no departure seen"
