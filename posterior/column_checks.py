"""Posterior predictive checks of each column (gene) by itself: which are not like replications of them?

Of each column's share of zeros, mean and variance, the interval that 95 % of the replications lie in. Were the fit
true, about 95 % of the columns would be inside, or more: the data were used to fit, and shares of zeros come in steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

STATISTICS = "share of zeros", "mean", "variance"
LEVEL = 0.95
MOST = 5  # columns that are named

Found = Float[np.ndarray, "3 n_cols"]


@dataclass(frozen=True, eq=False)
class ColumnChecks:
    """Columns beside their replications.

    Attributes:
        table: Per column and statistic, columns in the fit's order: `column`, `statistic`, `observed`, `lower` and
            `upper` (bounds of 95 % of the replications), `mean` of them, `distance` of the observed from that mean in
            standard deviations of the replications, and whether it is `inside` the bounds.
    """

    table: pd.DataFrame

    @classmethod
    def of(cls, names: np.ndarray, observed: Found, drawn: list[Found], n_rows: int) -> ColumnChecks:
        """Compare columns with replications.

        Args:
            names: Names of the columns.
            observed: Share of zeros, mean and variance of each.
            drawn: The same of each replication.
            n_rows: Rows that they are of.
        """
        draws = np.stack(drawn)
        lower, upper = np.quantile(draws, ((1 - LEVEL) / 2, (1 + LEVEL) / 2), axis=0)
        mean, sd = draws.mean(0), draws.std(0, ddof=1)
        # where replications are all the same, one count more in one row is one standard deviation, not infinitely many
        distance = (observed - mean) / np.maximum(sd, 1 / n_rows)
        found = {"observed": observed, "lower": lower, "upper": upper, "mean": mean, "distance": distance}
        table = pd.DataFrame({name: x.T.ravel() for name, x in found.items()})
        table.insert(0, "column", np.repeat(names, len(STATISTICS)))
        table.insert(1, "statistic", np.tile(STATISTICS, len(names)))
        inside = (observed >= lower - 1e-12) & (observed <= upper + 1e-12)
        return cls(table.assign(inside=inside.T.ravel()))

    @property
    def n_columns(self) -> int:
        """How many columns there are."""
        return len(self.table) // len(STATISTICS)

    def shares(self) -> pd.DataFrame:
        """By `statistic`: how many `columns`, and the share of them that is `inside` 95 % of their replications."""
        found = self.table.groupby("statistic", sort=False)["inside"].agg(columns="size", inside="mean")
        return found.reset_index()

    def outermost(self, n: int = MOST) -> pd.DataFrame:
        """The columns farthest from their replications, each by its farthest statistic, farthest first."""
        farthest = self.table.assign(far=self.table["distance"].abs()).sort_values(
            "far", ascending=False, kind="stable"
        )
        return farthest.drop_duplicates("column").drop(columns="far").head(n).reset_index(drop=True)

    def to_dict(self) -> dict[str, Any]:
        """Shares, and the columns farthest out, ready for JSON."""
        return {"shares": self.shares().to_dict("records"), "outermost": self.outermost().to_dict("records")}
