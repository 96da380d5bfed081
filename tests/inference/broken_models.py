"""Models and guides that break the contract, each in one way."""

import pyro
import pyro.distributions as dist
import torch
from platewise.data import RowBatch
from pyro.nn import PyroModule, PyroParam
from torch import nn
from torch.distributions import constraints


class Levels(nn.Module):
    """What the others are variations of: a level a row, and a grand mean."""

    def forward(self, batch: RowBatch) -> None:
        mu = pyro.sample("mu", dist.Normal(torch.zeros(()), 1.0))
        with batch.row_plate("rows"):
            level = pyro.sample("level", dist.Normal(torch.zeros(()), 1.0))
        with batch.entries("entries"):
            pyro.sample("y", dist.Normal(mu + batch.at_rows(level, 0), 0.5), obs=batch.value)


class OwnRows(nn.Module):
    """A plate of rows that draws its own."""

    def forward(self, batch: RowBatch) -> None:
        with pyro.plate("rows", batch.n_rows, subsample_size=len(batch.rows)):
            level = pyro.sample("level", dist.Normal(torch.zeros(()), 1.0))
        with batch.entries("entries"):
            pyro.sample("y", dist.Normal(level[batch.row], 0.5), obs=batch.value)


class PlateOfTheBatch(nn.Module):
    """A plate of the batch's size: no scale."""

    def forward(self, batch: RowBatch) -> None:
        with pyro.plate("rows", len(batch.rows)):
            level = pyro.sample("level", dist.Normal(torch.zeros(()), 1.0))
        with batch.entries("entries"):
            pyro.sample("y", dist.Normal(level[batch.row], 0.5), obs=batch.value)


class Broadcasts(nn.Module):
    """Every value against every mean."""

    def forward(self, batch: RowBatch) -> None:
        with batch.row_plate("rows"):
            level = pyro.sample("level", dist.Normal(torch.zeros(()), 1.0))
        with batch.entries("entries"):
            pyro.sample("y", dist.Normal(level[batch.row][:, None], 0.5), obs=batch.value)


class GlobalInPlate(nn.Module):
    """A grand mean a row."""

    def forward(self, batch: RowBatch) -> None:
        with batch.row_plate("rows"):
            mu = pyro.sample("mu", dist.Normal(torch.zeros(()), 1.0))
        with batch.entries("entries"):
            pyro.sample("y", dist.Normal(batch.at_rows(mu, 0), 0.5), obs=batch.value)


class Unscaled(nn.Module):
    """A likelihood without the batch's scale."""

    def forward(self, batch: RowBatch) -> None:
        with batch.row_plate("rows"):
            level = pyro.sample("level", dist.Normal(torch.zeros(()), 1.0))
        with pyro.plate("entries", len(batch.value)):
            pyro.sample("y", dist.Normal(level[batch.row], 0.5), obs=batch.value)


class EntriesInRows(nn.Module):
    """The scale twice."""

    def forward(self, batch: RowBatch) -> None:
        with batch.row_plate("rows"):
            level = pyro.sample("level", dist.Normal(torch.zeros(()), 1.0))
            with batch.entries("entries"):
                pyro.sample("y", dist.Normal(level[batch.row], 0.5), obs=batch.value)


class GlobalParameter(nn.Module):
    """A parameter in Pyro's store, that no optimiser of modules would see."""

    def forward(self, batch: RowBatch) -> None:
        level = pyro.param("level", torch.zeros(()))
        mu = pyro.sample("mu", dist.Normal(level, 1.0))
        with batch.entries("entries"):
            pyro.sample("y", dist.Normal(mu, 0.5), obs=batch.value)


class LevelsGuide(PyroModule):
    """A guide of `Levels` as it should be."""

    def __init__(self, n_rows: int = 12) -> None:
        super().__init__()
        self.loc = PyroParam(torch.full((n_rows,), 0.1), event_dim=0)
        self.mu_loc = PyroParam(torch.tensor(0.1))
        self.scale = PyroParam(torch.tensor(0.3), constraints.positive)

    def forward(self, batch: RowBatch) -> None:
        self.mu()
        with batch.row_plate("rows"):
            pyro.sample("level", dist.Normal(self.loc, self.scale))

    def mu(self) -> None:
        pyro.sample("mu", dist.Normal(self.mu_loc, self.scale))


class LacksASite(LevelsGuide):
    """A guide without the grand mean."""

    def mu(self) -> None:
        pass


class MoreSites(LevelsGuide):
    """A guide with a site that the model lacks."""

    def mu(self) -> None:
        super().mu()
        pyro.sample("nu", dist.Normal(self.mu_loc, self.scale))


class OutsideThePlate(LevelsGuide):
    """Row sites with values of the right shape and the wrong scale."""

    def forward(self, batch: RowBatch) -> None:
        self.mu()
        pyro.sample("level", dist.Normal(self.loc[batch.rows], self.scale))


class OneEvent(LevelsGuide):
    """All rows as one event."""

    def forward(self, batch: RowBatch) -> None:
        self.mu()
        pyro.sample("level", dist.Normal(self.loc[batch.rows], self.scale).to_event(1))


class MeanPerRow(LevelsGuide):
    """A grand mean for each row, in the guide."""

    def forward(self, batch: RowBatch) -> None:
        with batch.row_plate("rows"):
            self.mu()
            pyro.sample("level", dist.Normal(self.loc, self.scale))


class NotReparameterised(LevelsGuide):
    """A family whose draws have no gradient."""

    def mu(self) -> None:
        pyro.sample("mu", dist.Normal(self.mu_loc, self.scale).has_rsample_(False))
