"""The VAE from the command line: fitted with covariates, scored, embedded, gone on with, and what is refused."""

import json
import os
import shutil
import signal

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from platewise.cli import main
from platewise.data import log_normalise, mark, write_h5ad
from platewise.guides import AmortizedNormal
from platewise.inference import svi
from platewise.inference.run_directory import load, read_config
from platewise.models import VAE
from platewise.posterior import score_rows

from ..count_data import small_counts

SMALL = ("--model", "vae", "--latent", 2, "--hidden", 8)
SHORT = (*SMALL, "--epochs", 2, "--batch-rows", 20)
SHARED = "--model vae --latent 2 --hidden 8 --epochs 2"


def labelled() -> ad.AnnData:
    cells = small_counts()
    cells.obs["donor.id"] = pd.Categorical(np.array(["B", "A"])[cells.obs["batch"]])
    cells.obs["type"] = np.array(["x", "y", "z"] * 20)
    cells.obs["age"] = np.linspace(20.0, 80.0, cells.n_obs)
    cells.obs["gap"] = np.where(cells.obs["age"] > 30, cells.obs["age"], np.nan)
    return cells


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Counts; the same log-normalised, as ratings, with a batch that is new, and without batches; and a fit."""
    made = tmp_path_factory.mktemp("vae")
    cells = labelled()
    write_h5ad(cells, made / "cells.h5ad")
    write_h5ad(log_normalise(cells), made / "logs.h5ad")
    other = cells.copy()
    other.obs["donor.id"] = ["C"] + ["A"] * 59
    write_h5ad(other, made / "other.h5ad")
    del other.obs["donor.id"]
    write_h5ad(other, made / "without.h5ad")
    write_h5ad(mark(other, unstored="missing"), made / "ratings.h5ad")
    options = ("--batch-key", "donor.id", "--covariate", "age", "--covariate", "type", "-o", made / "run")
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in ("fit", made / "cells.h5ad", *SHORT, *options)])
    assert not stopped.value.code
    return made


@pytest.fixture(autouse=True)
def cells(made, tmp_path):
    """All of that in the folder one stands in, and the counts."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return labelled()


def test_fit_reads_covariates_and_says_nats_per_cell(platewise):
    options = ("--batch-key", "donor.id", "--covariate", "age", "--covariate", "type")
    run = platewise("fit", "cells.h5ad", *SHORT, *options, "-o", "run", "--force")
    config = read_config("run")
    assert config["model"]["config"]["categories"] == {"batch": 2, "type_": 3}
    assert config["model"]["config"]["continuous"] == {"age": 1}
    assert config["covariates"]["batch"]["levels"] == ["A", "B"]
    assert config["covariates"]["age"]["mean"] == pytest.approx(50)
    assert (config["algorithm"], config["guide"]["class"].split(":")[1]) == ("svi", "AmortizedNormal")
    assert f"({load('run').elbo / 60:,.4f} per cell)" in run.out
    assert "taken: counts; entries not stored taken as observed zeros" in run.out


def test_evaluate_prints_both_bounds(cells, platewise):
    result = platewise("evaluate", "run", "cells.h5ad", "--draws", 4)
    assert "without intervals: those of counts are judged by `platewise diagnose`" in result.out
    assert "60 cells of cells.h5ad" in result.out
    assert result.out.count("lower bound") + result.out.count("the same, importance-weighted over 4 draws") == 2
    printed = json.loads(platewise("evaluate", "run", "cells.h5ad", "--draws", 4, "--seed", 1, "--json").out)
    assert list(printed) == ["n", "elbo", "log_likelihood_iw", "draws", "effective_draws", "n_trained_on"]
    found = score_rows(load("run"), cells, draws=4, seed=1)
    assert printed["elbo"] == pytest.approx(found["elbo"].mean())
    assert printed["log_likelihood_iw"] == pytest.approx(found["log_likelihood_iw"].mean())
    assert (printed["n"], printed["draws"], printed["n_trained_on"]) == (60, 4, 60)
    assert "in-sample: 60 of them, by name, are cells that the fit was trained on." in result.out


def test_a_loose_bound_is_said_to_be(platewise, monkeypatch):
    assert "warning" not in platewise("evaluate", "run", "cells.h5ad", "--draws", 20).err
    monkeypatch.setattr("platewise.cli.evaluate_rows.FEW_DRAWS", 20)
    told = platewise("evaluate", "run", "cells.h5ad", "--draws", 20).err
    assert "the importance-weighted bound is loose. Say --draws 200, or fit with --guide full." in told


@pytest.mark.parametrize(
    ("guide", "remedy"), [("full", "--draws 50, or fit with --guide flow;"), ("flow", "--draws 50.")]
)
def test_the_remedy_for_a_loose_bound_is_a_guide_richer_than_the_fit_s(platewise, monkeypatch, guide, remedy):
    platewise("fit", "cells.h5ad", *SHORT, "--guide", guide, "-o", "new")
    monkeypatch.setattr("platewise.cli.evaluate_rows.FEW_DRAWS", 5)
    assert f"loose. Say {remedy}" in platewise("evaluate", "new", "cells.h5ad", "--draws", 5).err


def test_embed_reads_the_columns(platewise):
    result = platewise("embed", "run", "cells.h5ad", "-o", "out.h5ad")
    assert result.out.strip() == "out.h5ad: 60 cells in 2 dimensions, obsm['X_platewise']"
    assert ad.read_h5ad("out.h5ad").obsm["X_platewise_sd"].shape == (60, 2)


@pytest.mark.parametrize(
    "options", ["--guide full --library latent", "--guide flow --layers 0", "--dispersion gene-batch"]
)
def test_every_option_reaches_the_model_and_is_read_again(platewise, options):
    result = platewise("fit", "cells.h5ad", *SHORT, "--batch-key", "batch", *options.split(), "-o", "new")
    assert result.code == 0, result.err
    config = read_config("new")["model"]["config"]
    words = options.split()
    for name, value in zip(words[::2], words[1::2], strict=True):
        assert name == "--guide" or str(config[name.removeprefix("--")]) == value
    scores = json.loads(platewise("evaluate", "new", "cells.h5ad", "--draws", 2, "--json").out)
    assert np.isfinite(scores["elbo"])
    assert platewise("embed", "new", "cells.h5ad", "-o", "out.h5ad").code == 0


def test_gaussian_takes_log_normalised_values(cells, platewise):
    assert (
        "taken: counts log-normalised to 10,000 a row"
        in platewise("fit", "cells.h5ad", *SHORT, "--likelihood", "gaussian", "-o", "a").out
    )
    platewise("fit", "logs.h5ad", *SHORT, "--likelihood", "gaussian", "-o", "b")
    assert load("a").elbo == pytest.approx(load("b").elbo)
    printed = [json.loads(platewise("evaluate", "a", file, "--draws", 2, "--json").out) for file in
               ("cells.h5ad", "logs.h5ad")]  # fmt: skip
    assert printed[0] == pytest.approx(printed[1])


@pytest.mark.parametrize("place", [(), ("--from-disk",)], ids=["memory", "disk"])
def test_an_interrupted_fit_goes_on_with_its_covariates(platewise, monkeypatch, place):
    options = (*SMALL, "--epochs", 4, "--batch-rows", 20, "--batch-key", "donor.id", "--covariate", "age", *place)
    assert platewise("fit", "cells.h5ad", *options, "-o", "whole").code == 0
    with monkeypatch.context() as patch:
        patch.setattr(svi, "step", pressed_after(5, svi.step))
        assert platewise("fit", "cells.h5ad", *options, "-o", "new").code == 130
    result = platewise("fit", "--resume", "new")
    assert result.code == 0, result.err
    resumed, whole = load("new"), load("whole")
    assert all(torch.equal(x, whole.model.state_dict()[name]) for name, x in resumed.model.state_dict().items())
    assert resumed.covariates == whole.covariates


def test_a_fit_is_not_gone_on_with_under_other_labels_or_units(cells, platewise, monkeypatch):
    options = (*SMALL, "--epochs", 2, "--batch-rows", 20, "--batch-key", "donor.id", "--covariate", "age")
    monkeypatch.setattr(svi, "step", pressed_after(2, svi.step))
    assert platewise("fit", "cells.h5ad", *options, "-o", "new").code == 130
    cells.obs["age"] *= 12
    write_h5ad(cells, "cells.h5ad", force=True)
    assert "'age' with the mean of the interrupted fit, 50, got 600" in platewise("fit", "--resume", "new").err
    cells.obs["donor.id"] = cells.obs["donor.id"].cat.rename_categories({"A": "X", "B": "Y"})
    write_h5ad(cells, "cells.h5ad", force=True)
    told = platewise("fit", "--resume", "new").err
    assert "'batch' with the levels of the interrupted fit, A, B, got X, Y. Give the column as it was." in told


def pressed_after(count, step):
    """A step after which Ctrl-C is pressed, once."""
    done = []

    def pressing(*arguments):
        step(*arguments)
        done.append(1)
        if len(done) == count:
            os.kill(os.getpid(), signal.SIGINT)

    return pressing


def test_a_fit_by_arrays_is_gone_on_with_in_python(cells, platewise, monkeypatch):
    given = {"covariates": {"age": cells.obs["age"].to_numpy()}, "progress": False, "device": "cpu"}
    monkeypatch.setattr(svi, "step", pressed_after(2, svi.step))
    model = VAE(2, hidden=8, continuous={"age": 1})
    svi.fit(model, AmortizedNormal(hidden=8), "cells.h5ad", epochs=2, batch_rows=20, **given).save("new")
    told = platewise("fit", "--resume", "new").err
    assert "got arrays for age. Go on in Python: svi.fit(" in told


def test_rows_held_out_end_the_fit_and_are_not_counted(platewise):
    held_out = ("--batch-rows", 20, "--validation", 0.2, "--patience", 1)
    result = platewise("fit", "cells.h5ad", *SMALL, "--epochs", 3, *held_out, "-o", "new")
    assert "with the best held-out bound" in result.out
    assert f"({load('new').elbo / 48:,.4f} per cell)" in result.out
    assert (
        f"held out: ELBO {load('new').history['validation_elbo'].max():,.4f} per cell, best after epoch" in result.out
    )
    assert "in-sample: 48 of them" in platewise("evaluate", "new", "cells.h5ad", "--draws", 2).out


def test_json_has_the_best_held_out_bound_and_no_rank(platewise):
    options = (*SMALL, "--epochs", 3, "--batch-rows", 20, "--json")
    printed = json.loads(platewise("fit", "cells.h5ad", *options, "--validation", 0.2, "-o", "new").out)
    history = load("new").history
    assert printed["validation_elbo"] == pytest.approx(history["validation_elbo"].max())
    assert printed["best_epoch"] == history["epoch"][history["validation_elbo"].idxmax()]
    assert not {"rank", "effective_rank"} & set(printed)
    without = json.loads(platewise("fit", "cells.h5ad", *options, "-o", "other").out)
    assert "validation_elbo" not in without


def test_a_file_that_does_not_say_what_it_holds(cells, platewise):
    logs = ad.AnnData(log_normalise(cells).X, var=cells.var, obs=cells.obs)
    logs.write_h5ad("logs_alone.h5ad")
    logs.layers["counts"] = cells.X
    logs.write_h5ad("with_counts.h5ad")
    told = platewise("fit", "logs_alone.h5ad", *SHORT, "-o", "o").err
    assert "logs_alone.h5ad. It keeps no raw counts in layers['counts'] or raw either" in told
    told = platewise("fit", "with_counts.h5ad", *SHORT, "-o", "o").err
    assert "Take what `platewise ingest with_counts.h5ad --cells -o COUNTS.h5ad` writes" in told
    assert platewise("ingest", "with_counts.h5ad", "--cells", "-o", "COUNTS.h5ad").code == 0
    assert platewise("fit", "COUNTS.h5ad", *SHORT, "-o", "o").code == 0


def test_a_level_of_a_fit_without_covariates(platewise):
    platewise("fit", "cells.h5ad", *SHORT, "-o", "new")
    told = platewise("generate", "new", "--batch", "A", "-o", "o").err
    assert "Expected a fit with covariates to choose a level of 'batch', got one without. Leave --batch out" in told


@pytest.mark.parametrize(
    ("command", "part"),
    [
        ("fit ratings.h5ad @ -o o", "for --model vae, got ratings (entries not stored are missing): ratings.h5ad"),
        ("fit logs.h5ad @ -o o", "Expected counts for --likelihood negative-binomial, got other values: logs.h5ad"),
        ("fit cells.h5ad @ --likelihood bernoulli -o o", "zeros and ones for --likelihood bernoulli"),
        ("fit cells.h5ad @ --likelihood nb -o o", "likelihood among gaussian, bernoulli"),
        ("fit cells.h5ad @ --likelihood gaussian --from-disk -o o", "log-normalised entries to stream"),
        ("fit cells.h5ad @ --rank 3 -o o", "got --rank, which belongs to latent-factor"),
        ("fit cells.h5ad @ --unstored zero -o o", "got --unstored, which belongs to latent-factor"),
        ("fit cells.h5ad --latent 3 -o o", "got --latent, which belongs to vae. Leave it out, or say --model vae."),
        ("fit cells.h5ad --batch-key batch -o o", "got --batch-key, which belongs to vae"),
        ("fit cells.h5ad @ --algorithm coordinate-ascent -o o", "got coordinate-ascent. Say --algorithm svi."),
        (
            "fit cells.h5ad --model vae --sweeps 3 -o o",
            "got --sweeps, which belongs to coordinate-ascent. Leave it out.",
        ),
        ("fit cells.h5ad @ --guide row-block -o o", "for --model vae (diagonal, full, flow), got 'row-block'"),
        ("fit cells.h5ad --guide full -o o", "with --algorithm coordinate-ascent, got 'full', which svi alone fits"),
        ("fit cells.h5ad @ --latent 0 -o o", "latent of at least 1, got 0"),
        ("fit cells.h5ad @ --estimator closed-form -o o", "Use --estimator sampled."),
        ("fit cells.h5ad @ --dispersion gene-batch -o o", "Expected --batch-key with --dispersion gene-batch"),
        ("fit cells.h5ad @ --batch-key nope -o o", "column 'nope' in obs for covariate 'batch', got kind, batch"),
        ("fit cells.h5ad @ --covariate gap -o o", "every row, got 10 of 60 rows where it is missing"),
        ("fit cells.h5ad @ --covariate batch -o o", "whole numbers, which may be either. Say --batch-key batch"),
        ("fit cells.h5ad @ --covariate age --covariate age -o o", "each covariate once, got 'age' twice"),
        ("fit cells.h5ad @ --patience 3 -o o", "Expected patience with rows held out"),
        ("fit cells.h5ad --model count-factor --rank auto -o o", "Expected a number for --rank"),
        (
            "fit cells.h5ad --model count-factor --likelihood gaussian -o o",
            "likelihood among poisson, negative-binomial",
        ),
        ("fit cells.h5ad --model count-factor --latent 3 -o o", "got --latent, which belongs to vae"),
        ("fit logs.h5ad --model count-factor -o o", "or say --model latent-factor"),
        ("fit --resume run --covariate age", "got --covariate as well"),
        ("evaluate run other.h5ad", "that the fit saw (A, B), got 'C'"),
        ("evaluate run without.h5ad", "column 'donor.id' in obs for covariate 'batch'"),
        ("evaluate run logs.h5ad", "Expected counts for an evaluation, as in the fit, got other values"),
        ("evaluate run ratings.h5ad", "got ratings"),
        ("evaluate run cells.h5ad --draws 0", "at least 1 draw, got 0"),
        ("evaluate run cells.h5ad --method sampled", "a VAE, whose cells are scored whole, got --method"),
        ("embed run without.h5ad -o o", "The fit read such a column: add it, or give the one that holds"),
        ("embed run other.h5ad -o o", "that the fit saw (A, B), got 'C'"),
        ("predict run --user c0 --item g0", "a prediction of single entries, got VAE. Say `platewise denoise RUN"),
        ("recommend run --user c0", "for recommendations, got VAE"),
        ("fold-in run cells.h5ad -o o", "embed, denoise and evaluate take new cells as they are"),
        ("posterior run -o o", "name some with --row"),
    ],
)
def test_what_is_refused_in_one_line(platewise, tmp_path, command, part):
    result = platewise(*command.replace("@", SHARED).split())
    assert result.code == 2
    assert result.err.count("\n") == 1
    assert part in result.err
    assert not (tmp_path / "o").exists()


def test_a_fit_of_entries_has_no_draws(folder, platewise):
    assert "got --draws" in platewise("evaluate", folder / "run", folder / "test.h5ad", "--draws", 3).err
