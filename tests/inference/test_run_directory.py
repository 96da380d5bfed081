import errno
import json
from contextlib import contextmanager

import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from platewise.data.errors import PlatewiseError
from platewise.data.simulate import simulate_ratings
from platewise.guides import MeanFieldNormal, RowBlockNormal
from platewise.inference import run_directory, svi
from platewise.inference.contract import as_module
from platewise.inference.run_directory import FILES, load, read_config, save, training_file
from platewise.models import LatentFactor
from torch import nn

OPTIONS = {"epochs": 3, "batch_rows": 20, "progress": False}


class Biases(nn.Module):
    """A model of somebody's own: a bias per user."""

    unstored = "missing"

    def __init__(self):
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(()))

    def forward(self, batch):
        with batch.row_plate("users"):
            user = pyro.sample("user", dist.Normal(batch.value.new_zeros(()), self.log_scale.exp()))
        with batch.entries("ratings"):
            pyro.sample("rating", dist.Normal(batch.at_rows(user, event_dim=0), 1.0), obs=batch.value)


@pytest.fixture(scope="module")
def ratings():
    model = LatentFactor(rank=2, sigma=0.5, user_scale=0.5, item_scale=0.5)
    return simulate_ratings(model, 60, 40, 600, given={"mu": 3.5})[0]


def fit(ratings, guide=RowBlockNormal, model=LatentFactor, **options):
    made = model(rank=3) if model is LatentFactor else model()
    return svi.fit(made, guide(), ratings, seed=1, **(OPTIONS | options))


@pytest.fixture
def run(ratings, tmp_path):
    save(fit(ratings), tmp_path / "run")
    return tmp_path / "run"


def same(left, right):
    assert left.keys() == right.keys()
    for name, x in left.items():
        assert torch.equal(x, right[name]), name
        assert x.dtype == right[name].dtype, name


@pytest.mark.parametrize("guide", [MeanFieldNormal, RowBlockNormal])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_loaded_is_what_was_saved(ratings, tmp_path, guide, dtype):
    ratings.obs["age"] = range(60)
    ratings.var["title"] = [f"film {j}" for j in range(40)]
    fitted = fit(ratings, guide, dtype=dtype)
    save(fitted, tmp_path / "run")
    loaded = load(tmp_path / "run")
    same(fitted.model.state_dict(), loaded.model.state_dict())
    same(fitted.guide.state_dict(), loaded.guide.state_dict())
    same(fitted.state, loaded.state)
    for name in ("history", "obs", "var"):
        pd.testing.assert_frame_equal(getattr(fitted, name), getattr(loaded, name))
    for name in ("algorithm", "options", "seed", "stopped", "converged", "meaning", "fingerprint", "covariates"):
        assert getattr(fitted, name) == getattr(loaded, name), name
    batch = fitted.blank_batch()
    torch.manual_seed(3)
    draws = fitted.guide(batch)
    torch.manual_seed(3)
    same(draws, loaded.guide(batch))


def test_loading_leaves_the_random_numbers_alone(run):
    before = torch.get_rng_state()
    load(run)
    assert torch.equal(before, torch.get_rng_state())


def test_the_folder_holds_plain_files_and_nothing_else(run):
    assert {file.name for file in run.iterdir()} == {"config.json", *FILES}
    assert not any(b"pickle" in file.read_bytes() for file in run.iterdir())
    assert len({file.stat().st_mode for file in run.iterdir()}) == 1
    assert [file.name for file in run.parent.iterdir()] == ["run"]


@pytest.mark.parametrize("step", [1, 4, 8])
def test_an_interrupted_fit_goes_on_as_if_it_had_never_stopped(ratings, tmp_path, monkeypatch, step):
    whole = fit(ratings)
    done, one_step = [], svi.step

    def counted(state, batch):
        one_step(state, batch)
        done.append(batch)

    @contextmanager
    def pressed_at_step():
        yield lambda: len(done) >= step

    with monkeypatch.context() as patch:
        patch.setattr(svi, "step", counted)
        patch.setattr(svi, "interrupts", pressed_at_step)
        save(fit(ratings), tmp_path / "run")
    earlier = load(tmp_path / "run")
    assert earlier.stopped.startswith(f"interrupted after step {step} of 9")
    again = svi.fit(earlier.model, earlier.guide, ratings, seed=1, resume=earlier, progress=False, **earlier.options)
    same(whole.model.state_dict(), again.model.state_dict())
    same(whole.guide.state_dict(), again.guide.state_dict())
    assert whole.history["elbo"].tolist() == again.history["elbo"].tolist()


def test_a_model_of_ones_own_is_asked_for(ratings, tmp_path):
    fitted = fit(ratings, model=Biases)
    save(fitted, tmp_path / "run")
    with pytest.raises(PlatewiseError, match=r"the model Biases of this fit.*load\(\.\.\., model="):
        load(tmp_path / "run")
    loaded = load(tmp_path / "run", model=Biases())
    same(fitted.model.state_dict(), loaded.model.state_dict())
    same(fitted.guide.state_dict(), loaded.guide.state_dict())


def test_the_training_file_is_remembered(ratings, tmp_path):
    file = tmp_path / "train.h5ad"
    file.touch()
    save(fit(ratings), tmp_path / "run", data=file, from_disk=True)
    assert training_file(tmp_path / "run") == file
    assert read_config(tmp_path / "run")["data"]["from_disk"]
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (tmp_path / "run").rename(moved / "run")
    file.rename(moved / "train.h5ad")
    assert training_file(moved / "run") == moved / "train.h5ad"
    (moved / "train.h5ad").unlink()
    assert training_file(moved / "run") is None


def test_a_path_that_exists_is_replaced_by_force_only(ratings, run):
    other = fit(ratings, epochs=1)
    with pytest.raises(PlatewiseError, match=r"path that is free, got .*run, which exists.*--force"):
        save(other, run)
    save(other, run, force=True)
    assert len(load(run).history) == 1
    assert [file.name for file in run.parent.iterdir()] == ["run"]


def test_room_is_asked_for_before_a_run_is_written(ratings, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(run_directory, "require_space", lambda path, n_bytes: asked.append((path, n_bytes)))
    save(fit(ratings, epochs=1), tmp_path / "run")
    written = sum(file.stat().st_size for file in (tmp_path / "run").glob("*.safetensors"))
    assert asked[0][0] == tmp_path / "run"
    assert written / 2 < asked[0][1] < 2 * written


def test_force_never_replaces_what_is_no_run_directory(ratings, tmp_path):
    letters = tmp_path / "letters"
    letters.mkdir()
    (letters / "dear.txt").write_text("friend")
    for path in (letters, letters / "dear.txt"):
        with pytest.raises(PlatewiseError, match=r"Expected a folder with config\.json to replace"):
            save(fit(ratings, epochs=1), path, force=True)
    assert (letters / "dear.txt").read_text() == "friend"


@pytest.mark.parametrize("failing", ["save_file", "_config"])
def test_a_full_disk_leaves_what_was_there(ratings, run, monkeypatch, failing):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(run_directory, failing, full)
    with pytest.raises(PlatewiseError, match=r"Expected to write .*run, got: No space left on device"):
        save(fit(ratings, epochs=1), run, force=True)
    assert len(load(run).history) == 3
    with pytest.raises(PlatewiseError, match="No space left"):
        save(fit(ratings, epochs=1), run.parent / "other")
    assert [file.name for file in run.parent.iterdir()] == ["run"]


def test_what_is_no_run_directory(run):
    with pytest.raises(PlatewiseError, match="Expected a run directory, got no such path"):
        load(run.parent / "nowhere")
    with pytest.raises(PlatewiseError, match="Expected a run directory, got a file"):
        load(run / "config.json")
    with pytest.raises(PlatewiseError, match=r"got a folder without config\.json"):
        load(run.parent)


@pytest.mark.parametrize("file", FILES)
def test_a_file_is_missing(run, file):
    (run / file).unlink()
    with pytest.raises(PlatewiseError, match=f"Expected {file} in the run directory"):
        load(run)


@pytest.mark.parametrize("file", ["config.json", *FILES])
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_a_file_is_cut_off(run, file, kept):
    content = (run / file).read_bytes()
    (run / file).write_bytes(content[: int(kept * len(content))])
    with pytest.raises(PlatewiseError, match=file) as caught:
        load(run)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("file", FILES)
def test_a_file_is_damaged_at_the_same_size(run, file):
    content = (run / file).read_bytes()
    (run / file).write_bytes(b"\xff" * 64 + content[64:])
    with pytest.raises(PlatewiseError, match=f"Expected a whole file, got a damaged one: .*{file}"):
        load(run)


def edited(run, **changes):
    config = read_config(run)
    (run / "config.json").write_text(json.dumps(config | changes))


def test_another_format(run):
    edited(run, format=2)
    with pytest.raises(PlatewiseError, match="Expected a run directory of format 1, got 2"):
        load(run)


@pytest.mark.parametrize("name", ["platewise.models.latent_factor:Gone", "platewise.models.gone:LatentFactor"])
def test_a_class_that_this_version_lacks(run, name):
    edited(run, model={"class": name, "config": {}})
    with pytest.raises(PlatewiseError, match="Expected a model that this version of Platewise has"):
        load(run)


def test_nothing_outside_models_and_guides_is_imported(run):
    edited(run, model={"class": "subprocess:Popen", "config": {"args": ["false"]}})
    with pytest.raises(PlatewiseError, match="not one of Platewise's own"):
        load(run)


def test_tensors_of_the_wrong_shape(run):
    with pytest.raises(PlatewiseError, match=r"Expected log_item_scale of shape \(6,\) for LatentFactor, got \(4,\)"):
        load(run, model=LatentFactor(rank=5))
    with pytest.raises(PlatewiseError, match=r"tables\.item\.dense of shape .* for MeanFieldNormal"):
        load(run, guide=MeanFieldNormal())


def grand_mean(batch):
    mu = pyro.sample("mu", dist.Normal(batch.value.new_zeros(()), 10.0))
    with batch.entries("ratings"):
        pyro.sample("rating", dist.Normal(mu, 1.0).expand(batch.value.shape), obs=batch.value)


def test_a_plain_function_as_model(ratings, tmp_path):
    fitted = svi.fit(as_module(grand_mean), MeanFieldNormal(), ratings, seed=1, **OPTIONS)
    save(fitted, tmp_path / "run")
    with pytest.raises(PlatewiseError, match="the model grand_mean of this fit"):
        load(tmp_path / "run")
    same(fitted.guide.state_dict(), load(tmp_path / "run", model=grand_mean).guide.state_dict())
