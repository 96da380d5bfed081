"""Guides, Gibbs and NUTS on small ratings drawn from the model, scales given: what each says of one posterior."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import anndata as ad
import arviz as az
import numpy as np
import torch
from gibbs import Cells, ratings_of
from gibbs_chains import gibbs
from nuts import nuts
from platewise.data import simulate_ratings, split_entries
from platewise.data.compiled import Array
from platewise.guides import MeanFieldNormal, RowBlockNormal
from platewise.inference import coordinate_ascent, svi
from platewise.inference.fitted import Fitted
from platewise.models import LatentFactor
from platewise.posterior import predict

SIGMA, SCALE, RANK = 0.5, 0.7, 2
USERS, ITEMS = 30, 20
LEVEL = 0.9
SHOWN = 3  # held-out entries in the table
GIBBS = "Gibbs"  # the reference of the ratios
MAXIMUM: dict[str, Any] = {"sweeps": 2000, "tolerance": 1e-8}  # to the bound's own maximum
STEPS: dict[str, Any] = {"batch_rows": USERS, "min_steps": 3000}
EXACT: dict[str, Any] = {"dtype": torch.float64, "progress": False}


@dataclass(frozen=True)
class Said:
    """What a posterior says of some numbers: moments and the ends of the central 90 % interval, each (k,)."""

    mean: Array
    sd: Array
    lower: Array
    upper: Array

    def cell(self, k: int) -> str:
        """One number's cell."""
        return f"{self.mean[k]:.2f} ± {self.sd[k]:.3f} [{self.lower[k]:.2f}, {self.upper[k]:.2f}]"


Posterior = dict[str, Said]  # of "mu", and of the held-out entries' "expectation" and "rating"


def model() -> LatentFactor:
    """Two factors and given scales: nothing but the sites is unknown."""
    return LatentFactor(RANK, sigma=SIGMA, user_scale=SCALE, item_scale=SCALE)


def simulated(seed: int) -> tuple[ad.AnnData, ad.AnnData]:
    """Ratings of half of the cells, a fifth of each user's held out."""
    ratings, _ = simulate_ratings(model(), USERS, ITEMS, USERS * ITEMS // 2, given={"mu": 3.5}, seed=seed)
    return split_entries(ratings, test=0.2, seed=seed, by="user")


def told(
    train: ad.AnnData, heldout: ad.AnnData, seed: int, sweeps: int, draws: int
) -> tuple[dict[str, Posterior], dict[str, tuple[float, float]]]:
    """What each method says; and of each sampler the largest R-hat and the smallest effective number of draws."""
    posteriors = {name: of_guide(fit, heldout) for name, fit in fits(train, seed)}
    mixing = {}
    for name, (mu, expected) in (
        (GIBBS, by_gibbs(train, heldout, seed, sweeps)),
        ("NUTS", by_nuts(train, heldout, seed, draws)),
    ):
        chains = az.convert_to_dataset({"mu": mu, "expected": expected})
        mixing[name] = float(az.rhat(chains).to_array().max()), float(az.ess(chains).to_array().min())
        posteriors[name] = of_draws(mu, expected, seed)
    return posteriors, mixing


def fits(train: ad.AnnData, seed: int) -> Iterator[tuple[str, Fitted]]:
    """The guides at the maxima of their bounds; by stochastic gradients near it."""
    settings = {"seed": seed, **EXACT}
    yield "mean-field", coordinate_ascent.fit(model(), MeanFieldNormal(), train, **MAXIMUM, **settings)
    yield "row-block", coordinate_ascent.fit(model(), RowBlockNormal(), train, **MAXIMUM, **settings)
    yield "row-block, by SVI", svi.fit(model(), RowBlockNormal(), train, **STEPS, **settings)


def of_guide(fit: Fitted, heldout: ad.AnnData) -> Posterior:
    """A guide's moments, with the interval of the normal that has them."""
    entries = heldout.X.tocoo()
    guide: Any = fit.guide
    pairs = heldout.obs_names[entries.row], heldout.var_names[entries.col]
    with torch.no_grad():
        mu = guide.posterior(fit.blank_batch())["mu"]
        ends = mu.icdf(mu.mean.new_tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
        said = {"mu": Said(*(x.reshape(1).numpy() for x in (mu.mean, mu.stddev, *ends)))}
    for name, of in (("expectation", "mean"), ("rating", "rating")):
        table = predict(fit, *pairs, of=of, level=LEVEL)
        said[name] = Said(*(table[column].to_numpy() for column in ("mean", "sd", "lower", "upper")))
    return said


def by_gibbs(train: ad.AnnData, heldout: ad.AnnData, seed: int, sweeps: int) -> tuple[Array, Array]:
    """Draws of the grand mean (chains, draws), and of the held-out expectations (chains, draws, e)."""
    entries = heldout.X.tocoo()
    at = Cells(entries.row, entries.col, entries.data.astype(np.float64))
    settings: dict[str, Any] = {"chains": 4, "sweeps": sweeps, "warmup": 500, "watched": len(at.value), "seed": seed}
    chains = gibbs(ratings_of(train.X), model().scales(), at, **settings)
    return chains.mu, chains.draws


def by_nuts(train: ad.AnnData, heldout: ad.AnnData, seed: int, draws: int) -> tuple[Array, Array]:
    """The same by NUTS, on the Pyro program itself."""
    found = nuts(model(), train, draws, draws, seed, chains=2)
    row, col = heldout.X.tocoo().coords
    mu, user, item = (found[name].numpy() for name in ("mu", "user", "item"))
    user, item = user.reshape(*mu.shape, USERS, -1)[..., row, :], item.reshape(*mu.shape, ITEMS, -1)[..., col, :]
    product = (user[..., :-1] * item[..., :-1]).sum(-1)
    return mu, mu[..., None] + user[..., -1] + item[..., -1] + product


def of_draws(mu: Array, expected: Array, seed: int) -> Posterior:
    """Moments and quantiles of draws; a rating is one of its expectation, with noise of variance SIGMA^2."""
    flat = expected.reshape(-1, expected.shape[-1])
    rating = flat + SIGMA * np.random.default_rng(seed).standard_normal(flat.shape)
    return {"mu": _said(mu.reshape(-1, 1)), "expectation": _said(flat), "rating": _said(rating)}


def _said(draws: Array) -> Said:
    return Said(draws.mean(0), draws.std(0), *np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0))


def table_of_some(posteriors: dict[str, Posterior]) -> tuple[list[str], list[list[str]]]:
    """The grand mean and some entries under each method: mean ± sd [90 % interval]."""
    n = len(posteriors[GIBBS]["rating"].mean)
    few = np.linspace(0, n - 1, SHOWN).astype(int)
    at = {"mu": few[:1], "expectation": few, "rating": few}
    rows = [
        [f"{what} {k + 1}" if what != "mu" else what, *(said[what].cell(k) for said in posteriors.values())]
        for what, places in at.items()
        for k in places
    ]
    return ["number", *posteriors], rows


def table_of_all(posteriors: dict[str, Posterior]) -> tuple[list[str], list[list[str]]]:
    """All held-out entries against Gibbs: distance of means in posterior sds, and ratios of sds and of widths."""
    truth = posteriors[GIBBS]
    rows = []
    for name, said in posteriors.items():
        mine, exact = said["expectation"], truth["expectation"]
        distance = np.sqrt(np.mean(((mine.mean - exact.mean) / exact.sd) ** 2))
        ratios = [f"{np.mean(said[what].sd / truth[what].sd):.3f}" for what in ("mu", "expectation", "rating")]
        width = np.mean((said["rating"].upper - said["rating"].lower) / (truth["rating"].upper - truth["rating"].lower))
        rows.append([name, f"{distance:.3f}", *ratios, f"{width:.3f}"])
    headings = ["posterior", "means of expectations: RMS distance in sds of Gibbs", "sd of mu / Gibbs"]
    return [*headings, "sd of expectations / Gibbs", "sd of ratings / Gibbs", "90 % width of ratings / Gibbs"], rows
