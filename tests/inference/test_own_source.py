"""Source of a person's own: run from a file, copied beside a fit, and run again only on trust."""

import json
import sys
from pathlib import Path

import pytest
import torch
from platewise.data.errors import PlatewiseError
from platewise.data.simulate import simulate_ratings
from platewise.guides import MeanFieldNormal, RowBlockNormal
from platewise.inference import Fitted, svi
from platewise.inference.own_source import Gathered, OwnSource, own_source, run_file
from platewise.inference.rebuild import make
from platewise.inference.run_directory import read_config, source_files
from platewise.models import LatentFactor
from pyro.infer.autoguide import AutoNormal
from torch import nn

SOURCE = '''
import pyro
import pyro.distributions as dist
import torch
from platewise.guides import MeanFieldNormal
from torch import nn


class Biases(nn.Module):
    def __init__(self, width=1.0, **others):
        super().__init__()
        self.config = {"width": width, **others}
        self.log_scale = nn.Parameter(torch.zeros(()))

    def forward(self, batch):
        scale = self.config["width"] * self.log_scale.exp()
        with batch.row_plate("users"):
            user = pyro.sample("user", dist.Normal(batch.value.new_zeros(()), scale))
        with batch.entries("ratings"):
            pyro.sample("rating", dist.Normal(batch.at_rows(user, event_dim=0), 1.0), obs=batch.value)


class Around(nn.Module):
    """A guide that holds another."""

    def __init__(self, local):
        super().__init__()
        self.config = {"local": local}
        self.local = local

    def setup(self, model, batch, starts=None):
        self.local.setup(model, batch, starts)

    def forward(self, batch):
        return self.local(batch)


def flat(batch):
    with batch.row_plate("users"):
        user = pyro.sample("user", dist.Normal(batch.value.new_zeros(()), 1.0))
    with batch.entries("ratings"):
        pyro.sample("rating", dist.Normal(batch.at_rows(user, event_dim=0), 1.0), obs=batch.value)


def by_rows():
    return Around(MeanFieldNormal())
'''


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(SOURCE)
    return path


@pytest.fixture(scope="module")
def ratings():
    return simulate_ratings(LatentFactor(rank=1, sigma=0.5), 20, 10, 80, given={"mu": 0.0})[0]


def fitted_run(ratings, path, model, guide):
    fitted = svi.fit(model, guide, ratings, epochs=1, batch_rows=10, progress=False)
    fitted.save(path)
    return fitted


def same(left, right):
    for x, y in ((left.model, right.model), (left.guide, right.guide)):
        assert x.state_dict().keys() == y.state_dict().keys()
        assert all(torch.equal(a, b) for a, b in zip(x.state_dict().values(), y.state_dict().values(), strict=True))


def test_a_file_runs_once_until_it_changes(file):
    first = run_file(file)
    assert run_file(file) is first
    file.write_text(SOURCE + "\nNEW = 1\n")
    assert run_file(file).NEW == 1
    assert not list(file.parent.glob("__pycache__"))


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("import torch\nx = (1,\n", "SyntaxError: '.' was never closed .*line 2"),
        ("x = 1\n\nx.y = 2\n", "line 3"),
        ("x = 1\nimport no_such_package\n", r"line 2\). A model is one file: what it imports must be installed"),
        ("import sys\nsys.exit(3)\n", "SystemExit: 3"),
        ("def f():\n    return {}['a']\n\nf()\n", "KeyError: 'a'.*line 2"),
    ],
)
def test_a_file_that_does_not_run_is_told_in_one_line(tmp_path, text, part):
    (tmp_path / "bad.py").write_text(text)
    before = set(sys.modules)
    with pytest.raises(PlatewiseError, match=part) as raised:
        run_file(tmp_path / "bad.py")
    assert "\n" not in str(raised.value)
    assert set(sys.modules) - before <= {"no_such_package"}


def test_no_file_is_said():
    with pytest.raises(PlatewiseError, match="which is no file"):
        run_file(Path("none.py"))


def test_what_has_no_file_to_run_again_has_no_source():
    class Inside(nn.Module):
        pass

    assert own_source(Inside) is None
    assert own_source(AutoNormal) is None  # installed
    assert own_source(MeanFieldNormal) is None
    assert isinstance(make(MeanFieldNormal, "guide", {}), MeanFieldNormal)


def test_two_files_of_one_name_are_told_apart(tmp_path):
    sources = Gathered()
    one, two = (OwnSource(tmp_path / folder / "mine.py", folder.encode()) for folder in ("a", "b"))
    assert [sources.add(x) for x in (one, two, one)] == ["source/mine.py", "source/mine_2.py", "source/mine.py"]
    assert sources.write(tmp_path)["source/mine.py"] == one.digest
    assert (tmp_path / "source" / "mine_2.py").read_bytes() == b"b"


def test_a_run_holds_the_source_that_was_run_and_asks_before_it_runs_it(file, ratings, tmp_path):
    mine = run_file(file)
    model, guide = make(mine.Biases, "model", {"width": 0.5}), make(mine.by_rows, "guide", {})
    file.write_text("raise RuntimeError('edited while the fit ran')")
    fitted = fitted_run(ratings, tmp_path / "run", model, guide)
    config = read_config(tmp_path / "run")
    assert config["model"] == {"class": "mine:Biases", "config": {"width": 0.5}, "source": "source/mine.py"}
    assert config["guide"]["class"] == "mine:by_rows"
    assert (tmp_path / "run" / "source" / "mine.py").read_text() == SOURCE
    assert source_files(tmp_path / "run") == [tmp_path / "run" / "source" / "mine.py"]
    with pytest.raises(PlatewiseError, match=r"Look at .*source/mine\.py, then pass load\(\.\.\., trust_source=True\)"):
        Fitted.load(tmp_path / "run")
    same(fitted, Fitted.load(tmp_path / "run", trust_source=True))
    same(fitted, Fitted.load(tmp_path / "run", model=mine.Biases(0.5), guide=mine.by_rows()))


def test_what_is_loaded_on_trust_is_saved_with_its_source(file, ratings, tmp_path):
    mine = run_file(file)
    fitted_run(ratings, tmp_path / "run", mine.Biases(2.0), mine.Around(RowBlockNormal()))
    loaded = Fitted.load(tmp_path / "run", trust_source=True)
    assert loaded.model.config == {"width": 2.0}
    assert isinstance(loaded.guide.local, RowBlockNormal)
    loaded.save(tmp_path / "again")
    names = ("model", "guide", "source")
    first, again = (read_config(tmp_path / name) for name in ("run", "again"))
    assert [first[name] for name in names] == [again[name] for name in names]
    same(loaded, Fitted.load(tmp_path / "again", trust_source=True))


def test_a_plain_function_is_kept_too(file, ratings, tmp_path):
    fitted = fitted_run(ratings, tmp_path / "run", run_file(file).flat, MeanFieldNormal())
    same(fitted, Fitted.load(tmp_path / "run", trust_source=True))


def test_source_that_was_changed_is_not_run(file, ratings, tmp_path):
    fitted_run(ratings, tmp_path / "run", run_file(file).Biases(), MeanFieldNormal())
    copy = tmp_path / "run" / "source" / "mine.py"
    copy.write_text(SOURCE.replace("1.0), obs", "2.0), obs"))
    with pytest.raises(PlatewiseError, match=r"mine\.py as the fit left it, got a file that was changed"):
        Fitted.load(tmp_path / "run", trust_source=True)
    copy.write_text(SOURCE + "\n")
    with pytest.raises(PlatewiseError, match=r"mine\.py of \d+ bytes, got"):
        Fitted.load(tmp_path / "run", trust_source=True)
    copy.unlink()
    with pytest.raises(PlatewiseError, match=r"Expected source/mine\.py in the run directory"):
        Fitted.load(tmp_path / "run", trust_source=True)


def test_a_source_outside_its_folder_is_not_run(file, ratings, tmp_path):
    fitted_run(ratings, tmp_path / "run", run_file(file).Biases(), MeanFieldNormal())
    place = tmp_path / "run" / "config.json"
    place.write_text(place.read_text().replace("source/mine.py", "../mine.py"))
    with pytest.raises(PlatewiseError, match="no such copy of source"):
        Fitted.load(tmp_path / "run", trust_source=True)


def test_a_run_without_source_is_read_as_before(file, ratings, tmp_path):
    mine = run_file(file)
    fitted = fitted_run(ratings, tmp_path / "run", mine.Biases(), MeanFieldNormal())
    place = tmp_path / "run" / "config.json"
    config = json.loads(place.read_text())
    del config["source"], config["model"]["source"], config["files"]["source/mine.py"]
    place.write_text(json.dumps(config))
    with pytest.raises(PlatewiseError, match=r"Make it as for the fit and pass load\(\.\.\., model=Biases"):
        Fitted.load(tmp_path / "run", trust_source=True)
    same(fitted, Fitted.load(tmp_path / "run", model=mine.Biases()))


def test_what_a_class_raises_is_told_in_one_line(file):
    file.write_text("class Picky:\n    def __init__(self, rank):\n        raise ValueError('rank\\nis odd')\n")
    with pytest.raises(PlatewiseError, match=r"Picky made with \{'rank': 3\}, got ValueError: rank is odd .*line 3"):
        make(run_file(file).Picky, "model", {"rank": 3})
    file.write_text("class Plain:\n    pass\n")
    with pytest.raises(PlatewiseError, match="Plain"):
        make(run_file(file).Plain, "guide", {})
