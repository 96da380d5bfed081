"""Each mistake gets one clear line and exit code 2, and nothing is written."""

import errno
import json
import resource
import shutil
from contextlib import contextmanager
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from platewise.data import mark

HEAD = "user,item,rating\n"
FILES = {
    "empty.csv": "",
    "header.csv": HEAD,
    "text.csv": HEAD + "1,1,5\n2,2,good\n",
    "nan.csv": HEAD + "1,1,5\n2,2,nan\n",
    "infinite.csv": HEAD + "1,1,5\n2,2,inf\n",
    "columns.csv": "a,b,c\n1,1,5\n2,2,3\n",
    "one_user.csv": HEAD + "1,1,5\n1,2,3\n",
    "one_item.csv": HEAD + "1,1,5\n2,1,3\n",
    "twice.csv": HEAD + "1,1,5\n1,1,3\n2,2,1\n",
    "good.csv": HEAD + "1,1,5\n2,2,3\n",
    "pairs.csv": "a,b\n1,2\n",
    "exists.h5ad": "a letter",
}
BAD = [
    ("ingest none.csv -o o.h5ad", "no such file: none.csv"),
    ("ingest empty.csv -o o.h5ad", "empty file: empty.csv"),
    ("ingest header.csv -o o.h5ad", "header"),
    ("ingest text.csv -o o.h5ad", "line 3"),
    ("ingest nan.csv -o o.h5ad", "line 3"),
    ("ingest infinite.csv -o o.h5ad", "line 3"),
    ("ingest columns.csv -o o.h5ad", "the columns a, b, c"),
    ("ingest good.csv --user who -o o.h5ad", "the columns user, item, rating"),
    ("ingest one_user.csv -o o.h5ad", "two users at least, got 1 user"),
    ("ingest one_item.csv -o o.h5ad", "two items at least, got 1 item"),
    ("ingest twice.csv --duplicates error -o o.h5ad", "1 duplicate"),
    ("ingest twice.csv --duplicates first -o o.h5ad", "got 'first'"),
    ("ingest good.csv -o exists.h5ad", "exists.h5ad, which exists. Say force (--force)"),
    ("ingest good.csv -o nowhere/o.h5ad", "nowhere, which does not exist"),
    ("ingest good.csv --unstored zero -o o.h5ad", "Expected an .h5ad for --unstored"),
    ("split none.h5ad -o a.h5ad b.h5ad", "no such file: none.h5ad"),
    ("split good.csv -o a.h5ad b.h5ad", "Expected an .h5ad file"),
    ("split data.h5ad --test 1.5 -o a.h5ad b.h5ad", "between 0 and 1, got 1.5"),
    ("split data.h5ad --by last -o a.h5ad b.h5ad", "--by last, got none"),
    ("split data.h5ad --by mood -o a.h5ad b.h5ad", "got 'mood'"),
    ("split data.h5ad -o a.h5ad a.h5ad", "a.h5ad twice"),
    ("split data.h5ad -o a.h5ad exists.h5ad", "exists.h5ad, which exists"),
    ("simulate --truth o.h5ad -o o.h5ad", "o.h5ad twice"),
    ("simulate --truth exists.h5ad -o o.h5ad", "exists.h5ad, which exists"),
    ("simulate --users 1 -o o.h5ad", "--users"),
    ("simulate --seed=-1 -o o.h5ad", "--seed"),
    ("simulate --users 10 --items 5 --ratings 1000 -o o.h5ad", "got 1000"),
    ("simulate --rank 0 -o o.h5ad", "rank of at least 1, got 0"),
    ("fit none.h5ad -o o", "no such file: none.h5ad"),
    ("fit none.h5ad --algorithm svi --from-disk -o o", "no such file: none.h5ad"),
    ("fit good.csv -o o", "Make one with `platewise ingest`"),
    ("fit cut.h5ad -o o", "truncated or damaged"),
    ("fit cut.h5ad --algorithm svi --from-disk -o o", "truncated or damaged"),
    ("fit data.h5ad", "Expected an .h5ad and -o RUN"),
    ("fit data.h5ad --rank 0 -o o", "rank of at least 1, got 0"),
    ("fit data.h5ad --rank 61 -o o", "rank of at most 60, the smaller side of a 120 x 60 matrix, got 61"),
    ("fit data.h5ad --algorithm svi --learning-rate=-1 -o o", "--learning-rate above 0, got -1.0"),
    ("fit data.h5ad --algorithm svi --learning-rate nan -o o", "--learning-rate above 0, got nan"),
    ("fit data.h5ad --sweeps 0 -o o", "sweeps above 0, got 0"),
    ("fit data.h5ad --tolerance nan -o o", "tolerance above 0, got nan"),
    ("fit data.h5ad --algorithm natural-gradient --passes 0 -o o", "passes above 0, got 0"),
    ("fit data.h5ad --algorithm svi --epochs 0 -o o", "epochs above 0, got 0"),
    ("fit data.h5ad --algorithm svi --batch-rows 0 -o o", "--batch-rows above 0, got 0"),
    ("fit data.h5ad --threads 0 -o o", "at least 1 thread, got 0"),
    ("fit data.h5ad --device mars -o o", "got 'mars'"),
    ("fit data.h5ad --model vea -o o", "got 'vea'"),
    ("fit data.h5ad --guide full -o o", "got 'full'"),
    ("fit data.h5ad --algorithm newton -o o", "got 'newton'"),
    ("fit counts.h5ad --algorithm svi --rank 2 --from-disk -o o", "Expected log-normalised entries to stream"),
    ("fit unmarked.h5ad --rank 2 -o o", "`platewise ingest unmarked.h5ad --unstored missing|zero -o"),
    ("split unmarked.h5ad -o a.h5ad b.h5ad", "`platewise ingest unmarked.h5ad --unstored missing -o"),
    ("ingest unmarked.h5ad -o o.h5ad", "`platewise ingest unmarked.h5ad --unstored missing -o"),
    ("fit unmarked.h5ad --rank 2 -o o", "what entries not stored mean"),
    ("fit data.h5ad -o run", "run, which exists. Say force (--force)"),
    ("fit data.h5ad -o letters --force", "Expected a folder with config.json to replace"),
    ("fit --resume none", "Expected a run directory, got no such path: none"),
    ("fit --resume run --epochs 9", "got --epochs as well"),
    ("fit --resume run --sweeps 9", "got --sweeps as well"),
    ("fit --resume run --drop-users", "got --drop-users as well"),
    ("fit --resume run --from-disk", "got --from-disk as well"),
    ("fit --resume run --rank 16", "got --rank as well"),
    ("fit --resume run --model latent-factor", "got --model as well"),
    ("fit --resume run --guide row-block", "got --guide as well"),
    ("fit --resume run --algorithm svi", "got --algorithm as well"),
    ("fit --resume run --estimator sampled", "got --estimator as well"),
    (
        "fit data.h5ad --algorithm svi --estimator exact -o o",
        "--estimator to be one that this release has (auto, closed-form, sampled)",
    ),
    ("fold-in run counts.h5ad -o o", "Expected ratings (entries not stored are missing) for a fold-in, got counts"),
    ("fold-in none data.h5ad -o o", "Expected a run directory, got no such path: none"),
    ("fold-in run data.h5ad -o run", "run, which exists. Say force (--force)"),
    ("evaluate none test.h5ad", "Expected a run directory, got no such path: none"),
    ("evaluate letters test.h5ad", "a folder without config.json"),
    ("evaluate run none.h5ad", "no such file: none.h5ad"),
    ("evaluate run counts.h5ad", "got counts"),
    ("predict run --user 1", "Expected --user and --item, or --pairs"),
    ("predict run --pairs pairs.csv", "the columns a, b"),
    ("predict run --pairs letters", "Expected a file of pairs, got a folder"),
    ("predict run --pairs empty.csv", "Expected a CSV of pairs"),
    ("predict run --pairs none.csv", "Expected a file of pairs, got no such file: none.csv. Make"),
    ("predict run --user 1 --item 1 --level 2", "level"),
    ("recommend run --user 1 -k 0", "got 0"),
    ("recommend run --user 1 --by luck", "got 'luck'"),
    ("posterior run --row nobody -o o.nc", "nobody"),
    ("posterior run --draws 0 -o o.nc", "got 0"),
    ("posterior run -o exists.h5ad", "exists.h5ad, which exists"),
]


@pytest.fixture
def here(folder, tmp_path):
    """A folder of good and bad files."""
    for name in ("data.h5ad", "test.h5ad"):
        shutil.copy(folder / name, tmp_path)
    shutil.copytree(folder / "run", tmp_path / "run")
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("friend")
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    whole = (tmp_path / "data.h5ad").read_bytes()
    (tmp_path / "cut.h5ad").write_bytes(whole[: len(whole) // 2])
    counts = ad.AnnData(sp.eye(8, format="csr", dtype=np.float32))
    counts.write_h5ad(tmp_path / "unmarked.h5ad")
    mark(counts, unstored="zero").write_h5ad(tmp_path / "counts.h5ad")
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(result, part):
    assert result.code == 2, result
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert part in result.err


@pytest.mark.parametrize(("command", "part"), BAD)
def test_one_clear_line_and_nothing_written(here, platewise, command, part):
    before = contents(here)
    refused(platewise(*command.split()), part)
    assert contents(here) == before


def test_mixed_id_types(here, platewise):
    """In text `1` and `a` are both text; a typed file can hold integers in one column and text in another."""
    pd.DataFrame({"user": [1.5, 2.0], "item": ["a", "b"], "rating": [1.0, 2.0]}).to_parquet("fractional.parquet")
    refused(platewise("ingest", "fractional.parquet", "-o", "o.h5ad"), "fractional numbers")
    assert not (here / "o.h5ad").exists()


@pytest.mark.parametrize(
    "command", ["fit --force", "fit --rank x", "evaluate run", "predict run --user 1 --rank 3", "recommend", "bogus"]
)
def test_what_the_parser_refuses(platewise, command):
    refused(platewise(*command.split()), "")


@pytest.mark.parametrize("file", ["model.safetensors", "guide.safetensors", "history.csv", "rows.parquet"])
def test_run_directories_that_are_not_whole(here, platewise, file):
    path = here / "run" / file
    path.write_bytes(path.read_bytes()[:-1])
    refused(platewise("predict", "run", "--user", 1, "--item", 1), f"{file} of ")
    path.unlink()
    refused(platewise("predict", "run", "--user", 1, "--item", 1), f"Expected {file} in the run directory run")


def test_a_run_directory_of_another_version(here, platewise):
    config = json.loads((here / "run" / "config.json").read_text())
    (here / "run" / "config.json").write_text(json.dumps(config | {"format": 99}))
    refused(platewise("evaluate", "run", "test.h5ad"), "of format 1, got 99")


@contextmanager
def no_file_above(n_bytes):
    """The system refuses to let any file grow: a disk that is full, as far as a program can tell."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    "command",
    [
        "ingest good.csv -o o.h5ad",
        "split data.h5ad -o a.h5ad b.h5ad",
        "fit data.h5ad --rank 2 --sweeps 1 -o o",
        "fit data.h5ad --rank 2 --sweeps 1 -o run --force",
        "predict run --user 1 --item 1 --item 2 -o o.csv",
        "posterior run --row 1 -o o.nc",
        "demo --users 80 --items 40 --ratings 1500 --rank 2 --sweeps 1 -o o",
    ],
)
def test_a_disk_that_is_full(here, platewise, command):
    before = contents(here)
    with no_file_above(64):
        result = platewise(*command.split())
    assert result.code == 2, result
    assert result.err.splitlines()[-1].startswith("error: ")
    assert contents(here) == before


def test_a_full_disk_is_seen_before_a_long_fit(here, platewise, monkeypatch):
    from platewise.inference import coordinate_ascent

    monkeypatch.setattr(coordinate_ascent, "fit", lambda *args, **kwargs: pytest.fail("fitted first"))
    with no_file_above(64):
        refused(platewise("fit", "data.h5ad", "--rank", 2, "-o", "o"), "Expected to write o, about")


@pytest.mark.parametrize(
    "command",
    ["split data.h5ad -o a.h5ad b.h5ad", "demo --users 80 --items 40 --ratings 1500 --rank 2 --sweeps 1 -o o"],
)
def test_no_temporary_names_in_messages(here, platewise, command):
    with no_file_above(64):
        result = platewise(*command.split())
    assert ".part" not in result.err
    assert ".h5ad" in result.err


def test_a_folder_is_never_replaced_by_a_file(here, platewise):
    before = contents(here)
    for command in ("simulate -o letters --force", "split data.h5ad -o a.h5ad letters --force"):
        refused(platewise(*command.split()), "letters")
    assert contents(here) == before


def test_a_disk_that_fills_up_later(here, platewise, monkeypatch):
    from platewise.inference import run_directory

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(run_directory, "save_file", full)
    before = contents(here)
    result = platewise("fit", "data.h5ad", "--rank", 2, "--sweeps", 1, "-o", "o")
    assert result.code == 2
    assert "No space left on device" in result.err.splitlines()[-1]
    assert contents(here) == before


def test_a_fault_is_one_line_too(here, platewise, monkeypatch):
    from platewise.inference import run_directory

    def broken(*args, **kwargs):
        raise KeyError("oops")

    monkeypatch.setattr(run_directory, "load", broken)
    result = platewise("predict", "run", "--user", 1, "--item", 1)
    assert result.code == 1
    assert "KeyError: 'oops'. This is a fault in Platewise" in result.err
    assert "Traceback" not in result.err
