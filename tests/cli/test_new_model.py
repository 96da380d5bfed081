"""`new-model` writes what fits, is read, and passes the tests of the contract as it stands."""

import json

import pytest
from platewise.inference.own_source import run_file


def test_the_model_fits_and_is_read_as_it_stands(folder, platewise):
    written = platewise("new-model", "my_model.py")
    assert written.code == 0, written.err
    assert "next: platewise fit DATA.h5ad --model my_model.py:MyModel --guide my_model.py:MyGuide -o RUN" in written.out
    names = (
        "--model",
        "my_model.py:MyModel",
        "--guide",
        "my_model.py:MyGuide",
        "--set",
        "rank=2",
        "--learning-rate",
        0.2,
    )
    result = platewise("fit", folder / "train.h5ad", *names, "--epochs", 20, "-o", "run")
    assert result.code == 0, result.err
    assert "next: platewise evaluate run TEST.h5ad --trust" in result.out

    assert "holds source of its own" in platewise("evaluate", "run", folder / "test.h5ad").err
    scores = platewise("evaluate", "run", folder / "test.h5ad", "--samples", 50, "--json", "--trust")
    assert scores.err == "runs run/source/my_model.py, which the run holds\n"
    assert json.loads(scores.out)["rmse"] < 1.05  # their own spread is 1.1, the first guess is off by 3.6
    assert platewise("recommend", "run", "--user", 1, "-k", 3, "--trust").out.count("highest") == 0
    assert len(json.loads(platewise("predict", "run", "--user", 1, "--item", 2, "--trust", "--json").out)) == 1
    exported = platewise("posterior", "run", "--row", 1, "--draws", 20, "-o", "posterior.nc", "--trust")
    assert exported.code == 0, exported.err


def test_its_tests_are_the_contract(platewise, tmp_path, monkeypatch):
    platewise("new-model", "mine.py")
    monkeypatch.syspath_prepend(tmp_path)
    tests = run_file(tmp_path / "test_mine.py").TestMyModel()
    tests.test_guide_samples_the_sites_of_the_model()
    tests.test_every_guide_parameter_learns()
    tests.test_gradients_of_mini_batches_are_unbiased()


def test_it_is_short_and_explained(platewise, tmp_path):
    platewise("new-model", "mine.py")
    lines = (tmp_path / "mine.py").read_text().splitlines()
    assert len(lines) < 80
    assert max(map(len, lines)) <= 120
    assert sum("#" in line for line in lines) > 5


@pytest.mark.parametrize("name", ["mine", "my-model.py", "class.py", "2.py", "mine.txt", "my.model.py"])
def test_a_name_that_cannot_be_imported_is_refused(platewise, tmp_path, name):
    result = platewise("new-model", name)
    assert result.code == 2
    assert f"got {name}. Say, for example, my_model.py." in result.err
    assert not list(tmp_path.iterdir())


def test_nothing_is_replaced_unless_it_is_said(platewise, tmp_path):
    (tmp_path / "test_mine.py").write_text("mine")
    result = platewise("new-model", "mine.py")
    assert result.code == 2
    assert "test_mine.py, which exists. Say force (--force)" in result.err
    assert not (tmp_path / "mine.py").exists()
    assert platewise("new-model", "mine.py", "--force").code == 0
    assert "ContractTests" in (tmp_path / "test_mine.py").read_text()
