"""Every command and every line of Python in the README runs, in the order given."""

import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


@pytest.fixture
def ratings(tmp_path, monkeypatch) -> pd.DataFrame:
    """A ratings.csv of one's own, in the folder one stands in."""
    monkeypatch.chdir(tmp_path)
    torch.set_default_dtype(torch.float32)  # as outside the tests
    rng = np.random.default_rng(0)
    cells = rng.choice(60 * 40, 1200, replace=False)
    table = pd.DataFrame({"user": 10 + cells // 40, "item": 1 + cells % 40, "rating": rng.integers(1, 6, 1200)})
    table.to_csv("ratings.csv", index=False)
    return table


def test_commands(ratings, capfd):
    from platewise.cli import main

    commands = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("platewise ")]
    assert len(commands) == 7
    for command in commands:
        with pytest.raises(SystemExit) as ended:
            main(shlex.split(command)[1:])
        assert ended.value.code in (0, None), (command, capfd.readouterr().err)
    assert Path("posterior.nc").is_file()


def test_at_most_five_commands_to_recommendations():
    first = blocks("sh")[0].splitlines()
    assert len(first) == 5
    assert first[-1].startswith("platewise recommend")


def test_python(ratings, capfd):
    fit_and_read, own_model = blocks("python")
    names: dict[str, object] = {}
    exec(fit_and_read, names)
    exec(own_model, names)
    from platewise.guides import MeanFieldNormal

    train, test = names["train"], names["test"]
    fitted = names["svi"].fit(names["PoissonCounts"](), MeanFieldNormal(), train, epochs=2)
    assert np.isfinite(names["evaluate"](fitted, test, n_samples=20).log_predictive_density)
