"""What each command writes and prints."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from platewise.cli.algorithms import OF_WHOLE_ROWS
from platewise.cli.program import __file__ as program_file
from platewise.cli.program import command as command_line
from platewise.cli.wording import at_the_command_line
from platewise.data import read_h5ad
from platewise.inference import coordinate_ascent, svi
from platewise.inference.run_directory import load
from platewise.posterior import load_netcdf

COMMANDS = (
    "demo",
    "simulate",
    "ingest",
    "split",
    "fit",
    "evaluate",
    "diagnose",
    "predict",
    "recommend",
    "fold-in",
    "embed",
    "posterior",
)
SCORES = {"n", "rmse", "mae", "coverage", "coverage_by_row_decile", "coverage_by_col_decile"} | {
    "log_predictive_density", "crps", "interval_width"
}  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_by_example(platewise, command):
    result = platewise(command, "--help")
    assert result.code == 0
    assert f"platewise {command} " in result.out
    assert "Example" in result.out


def test_the_program_lists_its_commands(platewise):
    result = platewise("--help")
    assert result.code == 0
    assert all(f"{command} " in result.out for command in COMMANDS)
    assert platewise("--version").out.startswith("platewise 0.")


def test_help_imports_nothing_heavy():
    code = "import sys, platewise.cli; print(sorted({'torch', 'pandas', 'numpy', 'anndata'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_simulate_writes_the_truth_beside_the_ratings(folder):
    adata = read_h5ad(folder / "data.h5ad")
    assert adata.shape == (120, 60)
    assert adata.X.nnz == 2000
    with np.load(folder / "data.truth.npz", allow_pickle=False) as truth:
        assert truth["mu"] == 3.5
        assert truth["user"].shape == (120, 3)
        assert set(truth) == {"mu", "user", "item", "A", "a", "B", "b", "sigma"}


def test_split_gives_two_parts(folder, platewise):
    parts = [read_h5ad(folder / f"{name}.h5ad") for name in ("train", "test")]
    assert [part.X.nnz for part in parts] == [1800, 200]
    result = platewise("split", folder / "data.h5ad", "--by", "user", "--json", "-o", "a.h5ad", "b.h5ad")
    assert json.loads(result.out)["n_train"] + json.loads(result.out)["n_test"] == 2000


def test_ingest_a_csv(platewise, tmp_path):
    (tmp_path / "r.csv").write_text("who,what,stars\n1,a,5\n2,b,3\n2,a,1\n2,a,2\n")
    result = platewise("ingest", "r.csv", "--user", "who", "--item", 1, "--rating", "stars", "-o", "r.h5ad", "--json")
    assert json.loads(result.out) == {
        "data": "r.h5ad", "users": 2, "items": 2, "entries": 3, "duplicates": 1, "timestamps": False,
        "unstored": "missing",
    }  # fmt: skip
    assert "duplicates" in result.err
    assert read_h5ad("r.h5ad").X.toarray().tolist() == [[5, 0], [2, 3]]
    assert "2 users x 2 items, 3 ratings" in platewise("ingest", "r.csv", "--user", "who", "--item", "what",
                                                      "--rating", "stars", "-o", "r.h5ad", "--force").out  # fmt: skip


def test_ingest_says_what_entries_not_stored_mean(platewise, tmp_path):
    import scipy.sparse as sp

    ad.AnnData(sp.eye(3, format="csc", dtype=np.float32)).write_h5ad(tmp_path / "cells.h5ad")
    result = platewise("ingest", "cells.h5ad", "--unstored", "zero", "-o", "counts.h5ad")
    assert "3 cells x 3 genes" in result.out
    assert read_h5ad("counts.h5ad").X.format == "csr"
    assert platewise("ingest", "counts.h5ad", "--unstored", "missing", "-o", "ratings.h5ad").code == 2


def test_messages_name_options_and_no_temporary_files():
    assert at_the_command_line('got none. Use by="random" or data=.') == "got none. Use --by random or --data."
    assert at_the_command_line("got /a/.b.h5ad.0123abcd.part: full") == "got /a/b.h5ad: full"
    told = at_the_command_line("got validation=0.99. Set validation=0, and hold out entries with split_entries.")
    assert told == "got --validation 0.99. Set --validation 0, and hold out entries with `platewise split`."
    assert at_the_command_line("got /a/.b.0123abcd.part.h5ad, about") == "got /a/b.h5ad, about"
    assert at_the_command_line("got /a/..b.0123abcd.part.4567abcd.part.nc.") == "got /a/b.nc."


def test_commands_are_printed_as_they_can_be_run(monkeypatch, tmp_path):
    program = tmp_path / "platewise"
    program.touch(mode=0o755)
    monkeypatch.setattr(sys, "argv", [str(program)])
    monkeypatch.setenv("PATH", "")
    assert command_line("evaluate", "a run") == f"{program} evaluate 'a run'"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert command_line("evaluate", "run") == "platewise evaluate run"
    monkeypatch.setattr(sys, "argv", [str(Path(program_file).with_name("__main__.py"))])
    assert command_line() == f"{sys.executable} -m platewise.cli"


def test_fit_says_how_it_ended_and_what_is_next(folder, platewise):
    arguments = ("fit", folder / "train.h5ad", "--algorithm", "svi", "--guide", "mean-field", "--rank", 2)
    arguments += ("--epochs", 2)
    result = platewise(*arguments, "-o", "run")
    assert result.code == 0
    assert "all 2 epochs done" in result.out
    assert "next: platewise evaluate run" in result.out
    printed = json.loads(platewise(*arguments, "-o", "again", "--json", "--from-disk").out)
    assert printed["run"] == "again"
    assert np.isfinite(printed["elbo"])
    assert printed["converged"] is None


def test_help_of_fit_tells_when_coordinate_ascent_ends(platewise):
    told = " ".join(platewise("fit", "--help").out.replace("│", " ").split())
    tolerance = OF_WHOLE_ROWS["coordinate-ascent"]["tolerance"]
    assert f"{coordinate_ascent.Options().tolerance} if not given" in told
    assert f"{tolerance:.7f} with zeros that are not stored" in told


def test_help_of_fit_tells_the_defaults_of_svi(platewise):
    told = " ".join(platewise("fit", "--help").out.replace("│", " ").split())
    options = svi.Options()
    assert f"svi --until epochs: passes over the users; {options.epochs} if not given." in told
    assert f"else {options.until}." in told
    assert f"svi: step size at its peak; {options.learning_rate} if not given." in told
    assert "with svi a twelfth of the users, 16 to 4096" in told
    assert options.batch_rows is None
    assert options.likelihood == "auto"
    assert [svi._batch_rows(options, n) for n in (1, 1200, 10**6)] == [16, 100, 4096]


def test_a_fit_that_broke_down_says_so(folder, platewise, monkeypatch):
    fit = coordinate_ascent.fit

    def broken(*args, **kwargs):
        fitted = fit(*args, **kwargs)
        fitted.stopped, fitted.converged = "the bound is no longer finite", False
        return fitted

    monkeypatch.setattr(coordinate_ascent, "fit", broken)
    result = platewise("fit", folder / "train.h5ad", "--rank", 2, "--sweeps", 1, "-o", "run")
    assert result.code == 1
    assert "error: the fit broke down: the bound is no longer finite" in result.err


def test_one_seed_gives_one_fit(folder, platewise):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        platewise("fit", folder / "train.h5ad", "--rank", 2, "--sweeps", 1, "--seed", seed, "-o", name)
    a, b, c = (load(name).guide.state_dict()["tables.item.dense"] for name in "abc")
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_evaluate_as_json_and_as_a_table(folder, platewise):
    scores = json.loads(platewise("evaluate", folder / "run", folder / "test.h5ad", "--json").out)
    assert set(scores) >= SCORES
    assert scores["n"] == 200
    assert set(scores["coverage"]) == {"0.5", "0.8", "0.9", "0.95"}
    assert len(scores["coverage_by_row_decile"]["0.9"]) == len(scores["coverage_by_col_decile"]["0.9"]) == 10
    table = platewise("evaluate", folder / "run", folder / "test.h5ad").out
    for word in ("RMSE", "90% interval", "log density", "CRPS", "Predictive scored: moment-matched normal"):
        assert word in table


def test_evaluate_counts_unknown_ids(folder, platewise):
    test = read_h5ad(folder / "test.h5ad")
    test.obs_names = ["new", *test.obs_names[1:]]
    test.write_h5ad("other.h5ad")
    n = test.X[0].nnz
    assert f"{n:,} ratings have ids that the fit never saw" in platewise("evaluate", folder / "run", "other.h5ad").out


def test_predict_pairs_and_products(folder, platewise, tmp_path):
    run = folder / "run"
    lines = json.loads(platewise("predict", run, "--user", 1, "--user", 2, "--item", 3, "--item", 4, "--json").out)
    assert [(line["user"], line["item"]) for line in lines] == [(1, 3), (1, 4), (2, 3), (2, 4)]
    assert all(line["lower"] < line["mean"] < line["upper"] for line in lines)
    (tmp_path / "pairs.csv").write_text("item,user\n3,1\n4,2\n")
    platewise("predict", run, "--pairs", "pairs.csv", "-o", "predicted.csv")
    predicted = pd.read_csv("predicted.csv")
    assert predicted["user"].tolist() == [1, 2]
    assert predicted["mean"].tolist() == pytest.approx([lines[0]["mean"], lines[3]["mean"]])


def test_predict_flags_an_unknown_id(folder, platewise):
    result = platewise("predict", folder / "run", "--user", 99999, "--item", 3)
    assert result.code == 0
    assert "never saw" in result.err
    line = json.loads(platewise("predict", folder / "run", "--user", 99999, "--item", 3, "--json").out)[0]
    assert (line["known_user"], line["known_item"]) == (False, True)


def test_recommend_leaves_out_what_was_rated(folder, platewise):
    lines = json.loads(platewise("recommend", folder / "run", "--user", 7, "-k", 60, "--json").out)
    train = read_h5ad(folder / "train.h5ad")
    seen = {int(name) for name in train.var_names[train.X[list(train.obs_names).index("7")].indices]}
    assert seen
    assert not seen & {line["item"] for line in lines}
    all_items = platewise("recommend", folder / "run", "--user", 7, "-k", 60, "--include-seen", "--json").out
    assert len(json.loads(all_items)) == 60


def test_recommend_for_an_unknown_user_says_so(folder, platewise):
    result = platewise("recommend", folder / "run", "--user", "nobody", "-k", 3)
    assert result.code == 0
    assert "unknown user: most rated" in result.out


def test_recommend_keeps_the_reason_in_the_file(folder, platewise):
    result = platewise("recommend", folder / "run", "--user", 7, "-k", 3, "-o", "best.csv")
    assert "reason" not in result.out
    assert pd.read_csv("best.csv")["reason"].tolist() == ["highest predicted"] * 3


def test_recommend_says_who_has_nothing_left(folder, platewise):
    train = read_h5ad(folder / "train.h5ad")
    rated = train.var_names[train.X[list(train.obs_names).index("7")].indices[0]]
    result = platewise("recommend", folder / "run", "--user", 7, "--item", rated)
    assert result.code == 0
    assert "nothing left to recommend to 7" in result.err


def test_recommend_asks_for_the_training_data(folder, platewise):
    train = read_h5ad(folder / "train.h5ad")
    train.write_h5ad("train.h5ad")
    platewise("fit", "train.h5ad", "--rank", 2, "--sweeps", 1, "-o", "run")
    train.X.data[0] += 1
    train.write_h5ad("train.h5ad")
    result = platewise("recommend", "run", "--user", 7)
    assert result.code == 2
    assert "train.h5ad gone or changed. Name them: --data FILE" in result.err
    assert platewise("recommend", "run", "--user", 7, "--data", folder / "train.h5ad").code == 0


def test_posterior_writes_netcdf(folder, platewise):
    run, test = folder / "run", folder / "test.h5ad"
    options = ("--row", 42, "--row", 7, "--col", 10, "--draws", 20, "--test", test)
    assert "20 draws of the globals, 2 users and 1 item" in platewise("posterior", run, "-o", "p.nc", *options).out
    tree = load_netcdf("p.nc", container="DataTree")
    assert tree["posterior"].dataset["A"].shape == (1, 20, 2, 2)
    assert tree["posterior"].dataset.coords["user"].values.tolist() == [42, 7]
    assert tree["observed_data"].sizes["entry"] == 200


def test_posterior_says_what_is_left_out(folder, platewise):
    shutil.copy(folder / "train.h5ad", "here.h5ad")
    platewise("fit", "here.h5ad", "--rank", 2, "--sweeps", 1, "-o", "run")
    shutil.copy(folder / "test.h5ad", "here.h5ad")  # changed
    assert "gone or changed. log_p" in platewise("posterior", "run", "-o", "o.nc", "--row", 7, "--draws", 5).err
    Path("here.h5ad").unlink()
    assert "log_p of the rows is left out" in platewise("posterior", "run", "-o", "p.nc", "--row", 7, "--draws", 5).err
    assert not platewise("posterior", "run", "-o", "q.nc", "--draws", 5).err


def test_demo_in_small(platewise, tmp_path):
    size = ("--users", 80, "--items", 40, "--ratings", 1500, "--rank", 2, "--sweeps", 4)
    result = platewise("demo", *size)
    assert result.code == 0, result.err
    made = {str(path.relative_to(tmp_path / "platewise-demo")) for path in (tmp_path / "platewise-demo").iterdir()}
    figures = {"elbo.png", "coverage.png", "predicted.png"}
    assert made == {"train.h5ad", "test.h5ad", "run", "posterior.nc", *figures}
    for name in figures:
        assert (tmp_path / "platewise-demo" / name).read_bytes().startswith(b"\x89PNG")
    commands = [line.split()[1:] for line in result.out.splitlines() if line.startswith("  platewise ")]
    assert len(commands) == 4
    for command in commands[:3]:
        assert platewise(*command).code == 0, command
    assert platewise("demo", *size).code == 2
    assert platewise("demo", *size, "--force").code == 0
