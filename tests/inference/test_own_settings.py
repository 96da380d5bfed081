"""Settings of models and guides of a person's own: kept where they are known, and never guessed."""

import json

import pytest
import torch
from platewise.data.errors import PlatewiseError
from platewise.data.simulate import simulate_ratings
from platewise.guides import FullNormal, MeanFieldNormal, RowBlockNormal
from platewise.inference import Fitted, svi
from platewise.inference.own_source import Gathered, run_file
from platewise.inference.rebuild import described, rebuild
from platewise.inference.run_directory import read_config
from platewise.models import LatentFactor

SOURCE = """
import pyro
import pyro.distributions as dist
from platewise.guides import FullNormal
from pyro.nn import PyroModule
from torch import nn


class Simple(nn.Module):
    def forward(self, batch):
        with batch.row_plate("users"):
            user = pyro.sample("user", dist.Normal(batch.value.new_zeros(()), 1.0))
        with batch.entries("ratings"):
            pyro.sample("rating", dist.Normal(batch.at_rows(user, event_dim=0), 1.0), obs=batch.value)


class Called(PyroModule):
    forward = Simple.forward


class Biases(Simple):
    def __init__(self, width=1.0, **others):
        super().__init__()
        self.config = {"width": width, **others}


class Wide(Biases):
    def __init__(self, by=2.0):
        super().__init__(width=by)


class Fixed(Biases):
    def __init__(self):
        super().__init__(width=0.25)


class Bare(Simple):
    def __init__(self, width=1.0):
        super().__init__()


class OfMu(FullNormal):
    def __init__(self):
        super().__init__(sites=("mu",))


class Another(FullNormal):
    pass
"""


@pytest.fixture
def mine(tmp_path):
    (tmp_path / "mine.py").write_text(SOURCE)
    return run_file(tmp_path / "mine.py")


@pytest.fixture(scope="module")
def ratings():
    return simulate_ratings(LatentFactor(rank=1, sigma=0.5), 20, 10, 80, given={"mu": 0.0})[0]


def fitted_run(ratings, path, model):
    fitted = svi.fit(model, MeanFieldNormal(), ratings, epochs=1, batch_rows=10, progress=False)
    fitted.save(path)
    return fitted


def same(left, right):
    one, other = left.guide.state_dict(), right.guide.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one | other)


def test_a_guide_of_ones_own_does_not_inherit_settings_that_it_cannot_take(mine):
    sources = Gathered()
    assert described(mine.OfMu(), sources)["config"] == {}
    assert described(mine.Another(sites=("mu",)), sources)["config"]["sites"] == ("mu",)


@pytest.mark.parametrize("seen", [{1, 2}, {1: 0.5}, [{2: (3, 4)}], float("nan")])
def test_settings_that_json_cannot_hold_do_not_end_a_fit(mine, ratings, tmp_path, seen):
    fitted = fitted_run(ratings, tmp_path / "run", mine.Biases(seen=seen))
    with pytest.raises(PlatewiseError, match=r"or that JSON could not hold.*load\(\.\.\., model=\.\.\.\)"):
        Fitted.load(tmp_path / "run", trust_source=True)
    same(fitted, Fitted.load(tmp_path / "run", model=mine.Biases(seen=seen)))


def test_settings_in_tuples_come_back_in_lists(mine, ratings, tmp_path):
    model = mine.Biases(seen={"a": (1, (2.5, None))})
    fitted_run(ratings, tmp_path / "run", model)
    loaded = Fitted.load(tmp_path / "run", trust_source=True)
    assert loaded.model.config == {"width": 1.0, "seen": {"a": [1, [2.5, None]]}}
    written = json.loads(json.dumps(described(FullNormal(sites=("mu",)))))
    assert rebuild(written, "guide").config["sites"] == ("mu",)


@pytest.mark.parametrize(("name", "args"), [("Bare", (0.01,)), ("Bare", ()), ("Wide", (3.0,))])
def test_settings_that_nobody_kept_are_not_taken_to_be_the_defaults(mine, ratings, tmp_path, name, args):
    model = getattr(mine, name)(*args)
    fitted = fitted_run(ratings, tmp_path / "run", model)
    assert read_config(tmp_path / "run")["model"]["config"] is None
    with pytest.raises(PlatewiseError, match=rf"Expected {name} and its settings.*got settings that are not known"):
        Fitted.load(tmp_path / "run", trust_source=True)
    same(fitted, Fitted.load(tmp_path / "run", model=model))


@pytest.mark.parametrize("name", ["Fixed", "Simple", "Called"])
def test_a_class_without_arguments_is_made_without(mine, ratings, tmp_path, name):
    fitted = fitted_run(ratings, tmp_path / "run", getattr(mine, name)())
    assert read_config(tmp_path / "run")["model"]["config"] == {}
    loaded = Fitted.load(tmp_path / "run", trust_source=True)
    same(fitted, loaded)
    assert getattr(loaded.model, "config", {"width": 0.25}) == {"width": 0.25}


def test_a_guide_among_settings_is_described_and_made_again():
    outer = RowBlockNormal()
    outer.config = {"local": MeanFieldNormal(hold_rows=False)}
    inner = {"class": "platewise.guides.mean_field_normal:MeanFieldNormal", "config": {"hold_rows": False}}
    assert described(outer)["config"] == {"local": inner}
    made = rebuild({"class": "platewise.guides.row_block_normal:RowBlockNormal", "config": {}}, "guide")
    assert isinstance(made, RowBlockNormal)
    joint = rebuild({"class": "platewise.guides.full_normal:FullNormal", "config": {"local": inner}}, "guide")
    assert not joint.config["local"].hold_rows
