"""A person with a model of their own in mind, at the command line: from a CSV to recommendations and ArviZ."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import anndata as ad
import arviz as az
import numpy as np
import pandas as pd
import pytest
from platewise.cli import main
from platewise.inference import Fitted
from platewise.posterior import load_netcdf, recommend

MODEL = Path(__file__).with_name("newcomer_model.py").read_text()
N_USERS, N_ITEMS, W, PI = 150, 40, 0.6, 0.3
FIT = ("--covariate", "log_income", "--epochs", 50, "--batch-rows", 38, "--seed", 0)


class Study(NamedTuple):
    """Where files lie, and what the data were drawn from."""

    folder: Path
    rates: pd.DataFrame  # of the Poisson, users by items
    effect: float  # of one standard deviation of the covariate
    n_zeros: int


def run(*arguments: Any) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    assert not stopped.value.code


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Surveyed pairs in two parts, the model's file in place of what `new-model` wrote, and a fit."""
    folder, rng = tmp_path_factory.mktemp("newcomer"), np.random.default_rng(3)
    log_income = rng.normal(10, 2, N_USERS)
    effect = W * (log_income - log_income.mean()) / log_income.std()
    a, b = effect + rng.normal(0, 0.4, N_USERS), rng.normal(0, 0.5, N_ITEMS)
    rates = np.exp(0.7 + a[:, None] + b + np.outer(rng.normal(0, 0.5, N_USERS), rng.normal(0, 0.5, N_ITEMS)))
    user, item = np.nonzero(rng.random(rates.shape) < 0.4)
    visits = np.where(rng.random(len(user)) < PI, 0, rng.poisson(rates[user, item]))
    users, items = [f"u{i}" for i in range(N_USERS)], [f"p{j}" for j in range(N_ITEMS)]
    table = pd.DataFrame({"user": np.array(users)[user], "item": np.array(items)[item], "visits": visits})
    table.to_csv(folder / "visits.csv", index=False)

    run("ingest", folder / "visits.csv", "--rating", "visits", "-o", folder / "visits.h5ad")
    data = ad.read_h5ad(folder / "visits.h5ad")
    data.obs["log_income"] = pd.Series(log_income, users).reindex(data.obs_names)
    data.write_h5ad(folder / "visits.h5ad")
    run("split", folder / "visits.h5ad", "--test", 0.2, "-o", folder / "train.h5ad", folder / "test.h5ad")
    run("new-model", folder / "visits.py")
    (folder / "visits.py").write_text(MODEL)
    run("fit", folder / "train.h5ad", "--model", f"{folder / 'visits.py'}:Visits", *FIT, "-o", folder / "run")
    return Study(folder, pd.DataFrame(rates, users, items), W, int((visits == 0).sum()))


def scores(study, platewise, name):
    test = study.folder / "test.h5ad"
    result = platewise("evaluate", study.folder / name, test, "--samples", 150, "--trust", "--json")
    assert result.code == 0, result.err
    return json.loads(result.out)


def covered_by_the_truth(study):
    """Share of held-out counts in 90 % intervals of the law they were drawn from: above 0.9, as counts are whole."""
    heldout = ad.read_h5ad(study.folder / "test.h5ad")
    entries = heldout.X.tocoo()
    rates = study.rates.loc[heldout.obs_names, heldout.var_names].to_numpy()[entries.row, entries.col]
    rng = np.random.default_rng(0)
    draws = np.where(rng.random((1000, len(rates))) < PI, 0, rng.poisson(rates, (1000, len(rates))))
    lower, upper = np.quantile(draws, [0.05, 0.95], axis=0)
    return float(((entries.data >= lower) & (entries.data <= upper)).mean())


def test_zeros_that_were_counted_are_kept(study):
    parts = [ad.read_h5ad(study.folder / f"{name}.h5ad").X for name in ("train", "test")]
    assert sum(int((part.data == 0).sum()) for part in parts) == study.n_zeros > 100


def test_the_effect_and_the_zeros_are_recovered(study, platewise):
    file = study.folder / "posterior.nc"
    assert platewise("posterior", study.folder / "run", "--row", "u1", "--draws", 300, "-o", file, "--trust").code == 0
    posterior = load_netcdf(file)
    summary = az.summary(posterior, var_names=["w", "pi"], hdi_prob=0.95, kind="stats")
    lower, upper = summary.loc["w", ["hdi_2.5%", "hdi_97.5%"]]
    assert lower < study.effect < upper
    assert summary.loc["pi", "mean"] == pytest.approx(PI, abs=0.04)
    best = 0.4 / np.sqrt(N_USERS)  # had every user been observed without noise
    assert 0.8 * best < summary.loc["w", "sd"] < 3 * best


def test_intervals_hold_and_the_zeros_are_worth_their_parameter(study, platewise):
    inflated = scores(study, platewise, "run")
    assert inflated["coverage"]["0.9"] == pytest.approx(covered_by_the_truth(study), abs=0.03)
    own = ("--model", f"{study.folder / 'visits.py'}:Visits", "--set", "inflated=false")
    assert platewise("fit", study.folder / "train.h5ad", *own, *FIT, "-o", study.folder / "poisson").code == 0
    plain = scores(study, platewise, "poisson")
    assert inflated["log_predictive_density"] > plain["log_predictive_density"] + 0.1


def test_it_predicts_at_the_command_line(study, platewise):
    asked = ("--trust", "--json", "--user", "u1", "--item", "p2")
    predicted = json.loads(platewise("predict", study.folder / "run", *asked).out)
    assert 0 <= predicted[0]["lower"] <= predicted[0]["mean"] <= predicted[0]["upper"]


def test_it_recommends_what_was_not_surveyed(study):
    fitted = Fitted.load(study.folder / "run", trust_source=True)
    train = ad.read_h5ad(study.folder / "train.h5ad")
    recommended = recommend(fitted, ["u1"], k=3, n_samples=50)
    assert len(recommended) == 3
    assert not set(recommended["item"]) & set(train.var_names[train["u1"].X.indices])


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ('["log_income"]', '["income"]', "Name its column of obs: --covariate income."),
        ("batch.at_rows(a, event_dim=0)", "a", "Pick each entry's value with batch.at_rows(...)."),
        ("batch.at_cols(b, event_dim=0)", "b", "Pick each entry's value with batch.at_cols(...)."),
        ("batch.at_rows(a, event_dim=0)", "batch.at_rows(a)", "write batch.at_rows(x, event_dim=0)."),
        ("visits = dist.Poisson(rate)", "visits = dist.Poisson(self.rte)", "Expected a program that runs, got Attr"),
    ],
)
def test_a_slip_is_told_with_its_line(study, platewise, tmp_path, right, wrong, said):
    (tmp_path / "slip.py").write_text(MODEL.replace(right, wrong))
    line = 1 + MODEL[: MODEL.index(right)].count("\n")
    result = platewise("fit", study.folder / "train.h5ad", "--model", "slip.py:Visits", *FIT, "-o", "run")
    assert result.code == 2
    assert said in result.err
    assert f"(slip.py, line {line}: " in result.err
    assert "fault in Platewise" not in result.err


def test_a_guide_that_leaves_the_support_is_refused(study, platewise, tmp_path):
    guide = """

class Guide(nn.Module):
    def setup(self, model, batch, starts=None):
        from torch import zeros
        self.loc = nn.Parameter(zeros(()))

    def forward(self, batch):
        for name in ("mu", "w", "pi"):
            pyro.sample(name, dist.Normal(self.loc, 1.0))
        with batch.row_plate("users"):
            pyro.sample("a", dist.Normal(self.loc, 1.0))
            pyro.sample("A", dist.Normal(self.loc.expand(1), 1.0).to_event(1))
        with batch.col_plate("items"):
            pyro.sample("b", dist.Normal(self.loc, 1.0))
            pyro.sample("B", dist.Normal(self.loc.expand(1), 1.0).to_event(1))
"""
    (tmp_path / "mine.py").write_text(MODEL + guide)
    own = ("--model", "mine.py:Visits", "--guide", "mine.py:Guide")
    result = platewise("fit", study.folder / "train.h5ad", *own, *FIT, "-o", "run")
    assert result.code == 2
    assert "Expected the guide to draw 'pi' from numbers from 0 to 1, as Uniform in the model has them" in result.err
