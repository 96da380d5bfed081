"""Models and guides of a person's own at the command line, and guides by name."""

import json
import sys
from contextlib import contextmanager

import pandas as pd
import pytest
import torch
from platewise.cli.families import JOINT, LOCALS, family, require_family
from platewise.data import read_h5ad, write_h5ad
from platewise.data.errors import PlatewiseError
from platewise.inference import svi
from platewise.inference.run_directory import load, read_config

from ..count_data import small_counts

SOURCE = '''
import pyro
import pyro.distributions as dist
from platewise.guides import RowBlockNormal
from platewise.models import PoissonRows
from torch import nn


class Biases(nn.Module):
    """rating_ij ~ Normal(mu + a_i, sd), with the mean drifting with a covariate if it is there."""

    def __init__(self, sd=1.0, *, name="a"):
        super().__init__()
        if sd <= 0:
            raise ValueError("sd must be above 0")
        self.sd, self.name = sd, name

    def forward(self, batch):
        zero = batch.value.new_zeros(())
        mu = pyro.sample("mu", dist.Normal(zero, 5.0))
        tau = pyro.sample("tau", dist.LogNormal(zero, 1.0))
        with batch.row_plate("users"):
            a = pyro.sample(self.name, dist.Normal(zero, tau))
        drift = sum(x.to(zero) for x in batch.covariates.values())
        mean = mu + batch.at_rows(a + drift, event_dim=0)
        with batch.entries("ratings"):
            pyro.sample("rating", dist.Normal(mean, self.sd), obs=batch.value)


class Stored(Biases):
    unstored = "missing"


class Rows(nn.Module):
    unstored = "zero"

    def forward(self, batch):
        level = pyro.sample("level", dist.Normal(batch.value.new_zeros(batch.n_cols), 1.0).to_event(1))
        with batch.row_plate("cells"):
            size = pyro.sample("size", dist.Normal(batch.value.new_zeros(()), 1.0))
            pyro.sample("x", PoissonRows(batch, level + size[..., None]), obs=batch.value)


def flat(batch):
    mu = pyro.sample("mu", dist.Normal(batch.value.new_zeros(()), 5.0))
    with batch.entries("ratings"):
        pyro.sample("rating", dist.Normal(mu, 1.0), obs=batch.value)


def blocks():
    return RowBlockNormal()


def needs(width):
    return RowBlockNormal()


THIS = 3
'''
QUICK = ("--epochs", 1, "--batch-rows", 60)


@pytest.fixture(autouse=True)
def _file(tmp_path):
    (tmp_path / "mine.py").write_text(SOURCE)
    (tmp_path / "broken.py").write_text("x = 1\ny = x.z\n")


@pytest.fixture
def cells(tmp_path):
    write_h5ad(small_counts(), tmp_path / "cells.h5ad")
    return "cells.h5ad"


def fit(platewise, data, *options, run="run"):
    return platewise("fit", data, *options, *QUICK, "-o", run)


@pytest.mark.parametrize(
    "guide", [None, "auto+mean-field", "mean-field", "low-rank:1", "mixture:2+mean-field", "flow", "mine.py:blocks"]
)
def test_a_model_of_ones_own_fits_by_each_guide_and_is_read(folder, platewise, guide):
    torch.set_default_dtype(torch.float32)  # as outside the tests
    named = () if guide is None else ("--guide", guide)
    result = fit(platewise, folder / "train.h5ad", "--model", "mine.py:Biases", "--set", "sd=0.5", *named)
    assert result.code == 0, result.err
    config = read_config("run")
    assert config["model"]["config"] == {"sd": 0.5}
    assert config["guide"]["class"].endswith("AutoGuide") == (guide in (None, "auto+mean-field"))
    scored = platewise("evaluate", "run", folder / "test.h5ad", "--samples", 20, "--json", "--trust")
    assert json.loads(scored.out)["n"] == 200, scored.err


def test_settings_of_a_named_guide_are_kept(folder, platewise):
    fit(platewise, folder / "train.h5ad", "--model", "mine.py:Biases", "--guide", "low-rank:1+mean-field")
    guide = load("run", trust_source=True).guide
    assert guide.config["rank"] == 1
    assert type(guide.config["local"]).__name__ == "MeanFieldNormal"


def test_a_plain_function_is_a_model(folder, platewise):
    result = fit(platewise, folder / "train.h5ad", "--model", "mine.py:flat")
    assert result.code == 0, result.err
    pair = ("predict", "run", "--user", 1, "--item", 2, "--json")
    assert "then say --trust" in platewise(*pair).err
    assert json.loads(platewise(*pair, "--trust").out)


def test_draws_of_a_prediction_are_as_many_as_asked_for(folder, platewise):
    """Intervals of few draws are rough; where there is a closed form, none are drawn."""
    fit(platewise, folder / "train.h5ad", "--model", "mine.py:flat")
    pair, best = ("--user", 1, "--item", 2, "--json"), ("--user", 1, "-k", 1, "--include-seen", "--json")
    for command in (("predict", "run", *pair, "--trust"), ("recommend", "run", *best, "--trust")):
        assert platewise(*command, "--samples", 2).out != platewise(*command).out
    closed = ("predict", folder / "run", *pair)
    assert platewise(*closed, "--samples", 2).out == platewise(*closed).out
    refused = platewise("predict", "run", *pair, "--trust", "--samples", 1)
    assert (refused.code, refused.err.splitlines()[-1][:35]) == (2, "error: Expected at least 2 samples,")


@pytest.mark.parametrize(("model", "data"), [("latent-factor", "ratings"), ("count-factor", "cells")])
def test_a_joint_family_for_a_model_of_ours(folder, platewise, cells, model, data):
    file = folder / "train.h5ad" if data == "ratings" else cells
    options = ("--model", model, "--algorithm", "svi", "--rank", 1, "--guide", "full+mean-field")
    result = fit(platewise, file, *options)
    assert result.code == 0, result.err
    assert load("run").guide.config["local"].factorised  # Platewise's own: read without --trust


def test_a_guide_of_ones_own_for_a_model_of_ours(folder, platewise):
    options = ("--algorithm", "svi", "--rank", 1, "--guide", "mine.py:blocks")
    assert fit(platewise, folder / "train.h5ad", *options).code == 0
    assert platewise("evaluate", "run", folder / "test.h5ad").code == 2
    assert platewise("evaluate", "run", folder / "test.h5ad", "--trust").code == 0


@pytest.mark.parametrize("from_disk", [False, True])
def test_whole_rows_of_counts(platewise, cells, from_disk):
    options = ("--model", "mine.py:Rows", "--guide", "mean-field", *(["--from-disk"] if from_disk else []))
    result = fit(platewise, cells, *options)
    assert result.code == 0, result.err
    assert "normalised" not in load("run", trust_source=True).meaning
    assert platewise("evaluate", "run", cells, "--samples", 10, "--trust").code == 0


def test_stored_counts_alone(platewise, cells):
    result = fit(platewise, cells, "--model", "mine.py:Stored", "--guide", "mean-field")
    assert result.code == 0, result.err
    assert "entries not stored taken as missing" in result.out
    meaning = load("run", trust_source=True).meaning
    assert (meaning["unstored"], meaning["recorded"]) == ("missing", "zero")
    assert platewise("evaluate", "run", cells, "--samples", 10, "--trust").code == 0
    assert platewise("posterior", "run", "--row", "cell0", "--draws", 10, "-o", "p.nc", "--trust").code == 0


def test_covariates_reach_the_model(folder, platewise):
    adata = read_h5ad(folder / "train.h5ad")
    adata.obs["age"] = [20.0 + i for i in range(adata.n_obs)]
    adata.obs["rank"] = range(adata.n_obs)
    adata.obs["group"] = pd.Categorical(["a", "b"] * (adata.n_obs // 2))
    write_h5ad(adata, "with.h5ad")
    options = ("--model", "mine.py:Biases", "--guide", "mean-field", "--covariate", "age", "--covariate", "group")
    assert fit(platewise, "with.h5ad", *options).code == 0
    covariates = load("run", trust_source=True).covariates
    assert covariates["group"]["levels"] == ["a", "b"]
    assert covariates["age"]["column"] == "age"
    refused = fit(platewise, "with.h5ad", "--model", "mine.py:Biases", "--covariate", "rank", run="other")
    assert "got whole numbers, which may be either" in refused.err
    assert "column 'none' in obs" in fit(platewise, "with.h5ad", *options, "--covariate", "none", run="other").err


def test_an_interrupted_fit_goes_on_on_trust(folder, platewise, monkeypatch, tmp_path):
    options = ("--model", "mine.py:Biases", "--guide", "mean-field", "--epochs", 3, "--batch-rows", 60)
    platewise("fit", folder / "train.h5ad", *options, "-o", "whole")
    done, one_step = [], svi.step

    @contextmanager
    def pressed_at_step():
        yield lambda: len(done) >= 3

    with monkeypatch.context() as patch:
        patch.setattr(svi, "step", lambda *given: done.append(one_step(*given)))
        patch.setattr(svi, "interrupts", pressed_at_step)
        stopped = platewise("fit", folder / "train.h5ad", *options, "-o", "run")
    assert stopped.code == 130
    assert "go on with `platewise fit --resume run --trust`" in stopped.err
    (tmp_path / "mine.py").unlink()
    assert "then say --trust" in platewise("fit", "--resume", "run").err
    resumed = platewise("fit", "--resume", "run", "--trust")
    assert resumed.code == 0, resumed.err
    columns = ["elbo", "step"]
    whole, run = (load(name, trust_source=True).history[columns] for name in ("whole", "run"))
    pd.testing.assert_frame_equal(whole, run)
    assert read_config("run")["source"] == read_config("whole")["source"]


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (
            "--model mine.py:Nobody",
            "a class or function of that file (Biases, Stored, Rows, flat, blocks, needs), got 'N",
        ),
        ("--model mine.py", "got no name. Choose one"),
        ("--model mine.py:THIS", "got 'THIS'"),
        ("--model none.py:Biases", "none.py, which is no file"),
        ("--model broken.py:X", "AttributeError: 'int' object has no attribute 'z'"),
        ("--model broken.py:X", "broken.py, line 2). Mend it"),
        ("--model mine.py:Biases --set colour=1", "Biases takes (sd=1.0, *, name='a'), got: got an unexpected keyword"),
        ("--model mine.py:Biases --set sd", "Expected --set NAME=VALUE, got 'sd'"),
        ("--model mine.py:Biases --set sd=1 --set sd=2", "got sd twice"),
        ("--model mine.py:Biases --set sd=0", "ValueError: sd must be above 0"),
        ("--model mine.py:flat --set sd=1", "Expected no --set for flat"),
        ("--model mine.py:Biases --rank 3", "got --rank, which belongs to latent-factor or count-factor. Say --set"),
        ("--model mine.py:Biases --likelihood poisson", "Say --set likelihood=VALUE"),
        ("--model mine.py:Biases --batch-key b", "Say --covariate COLUMN"),
        ("--model mine.py:Biases --algorithm coordinate-ascent", "got 'auto', which svi alone fits"),
        ("--model mine.py:Biases --algorithm natural-gradient --guide mean-field", "Say --algorithm svi"),
        ("--model mine.py:Biases --sweeps 3", "got --sweeps, which belongs to coordinate-ascent. Leave it out."),
        ("--model mine.py:Biases --guide diagonal", "mixture[:K], flow, FILE.py:NAME), got 'diagonal'"),
        ("--model mine.py:Biases --guide mine.py:needs", "made without arguments; needs takes (width), got: missing"),
        ("--model mine.py:Biases --guide mine.py:flat", "made without arguments"),
        ("--model mine.py:Biases --guide full:2", "--guide full without a number, got 'full:2'"),
        ("--model mine.py:Biases --guide low-rank:0", "1 or more as the rank of --guide low-rank, got '0'"),
        ("--model mine.py:Biases --guide mixture:two", "1 or more as the components of --guide mixture, got 'two'"),
        ("--model mine.py:Biases --guide full+full", "mean-field or row-block after the plus of --guide, got 'full'"),
        ("--model mine.py:Biases --guide row-block+mean-field", "Say --guide row-block alone"),
        ("--guide flow", "--algorithm coordinate-ascent, got 'flow', which svi alone fits. Say --algorithm svi."),
        ("--guide ful", "Expected --guide to be one that this release has for --model latent-factor (mean-field,"),
        ("--set rank=3", "got it with latent-factor. Use its options: --rank, --unstored, --noise."),
        ("--model vea", "(latent-factor, count-factor, vae, FILE.py:NAME), got 'vea'"),
        ("--trust", "Expected --trust with --resume RUN"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(folder, platewise, tmp_path, options, part):
    before = set(tmp_path.iterdir())
    result = platewise("fit", folder / "train.h5ad", *options.split(), "-o", "run")
    assert result.code == 2, result.err
    assert result.err.count("\n") == 1
    assert part in result.err
    assert set(tmp_path.iterdir()) == before


def test_a_model_that_does_not_say_how_it_takes_zeros_is_refused(folder, platewise, cells):
    refused = fit(platewise, cells, "--model", "mine.py:Biases")
    assert refused.code == 2
    assert 'Say unstored = "zero" in the class and observe whole rows' in refused.err
    assert "observed zeros" in fit(platewise, folder / "train.h5ad", "--model", "mine.py:Rows").err
    assert "Leave --from-disk out" in fit(platewise, cells, "--model", "mine.py:Stored", "--from-disk").err


def test_every_name_of_a_guide_makes_one():
    for name in (*LOCALS, *JOINT, "auto", "flow+row-block", "mixture:4", "low-rank:2+mean-field"):
        require_family(name, "latent-factor")
        assert hasattr(family(name), "setup"), name
    with pytest.raises(PlatewiseError, match="got '٣'"):
        require_family("mixture:٣", "latent-factor")


def test_a_file_that_needs_another_beside_it_is_refused(folder, platewise, tmp_path, monkeypatch):
    (tmp_path / "beside.py").write_text("OFFSET = 5.0\n")
    (tmp_path / "mine.py").write_text(f"from beside import OFFSET\n{SOURCE}")
    assert "No module named 'beside'" in fit(platewise, folder / "train.h5ad", "--model", "mine.py:flat").err
    monkeypatch.syspath_prepend(tmp_path)
    refused = fit(platewise, folder / "train.h5ad", "--model", "mine.py:flat")
    assert refused.code == 2
    assert "mine.py with an import of beside, which is not installed. Write what" in refused.err
    del sys.modules["beside"]  # for good: `monkeypatch` would put it back
