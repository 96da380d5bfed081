"""Cells chosen by a query or by name: what is understood, and that nothing but column expressions is evaluated."""

import numpy as np
import pandas as pd
import pytest
from platewise.data.errors import PlatewiseError
from platewise.posterior.selection import chosen_and_others


@pytest.fixture
def obs():
    columns = {
        "label": pd.Categorical(list("AABBC")),
        "n x": [1, 2, 3, 4, 5],
        "n": [1.0, 2.0, np.nan, 4.0, 5.0],
        "text": ["CD4 T", "B", "CD8 T", "x@y", "a__b"],
        "ok": pd.array([True, None, False, True, False], dtype="boolean"),
    }
    return pd.DataFrame(columns, index=list("vwxyz"))


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ("label == 'B'", [2, 3]),
        ("label == 'B' and n > 3", [3]),
        ("(label == 'B') & (n > 3)", [3]),
        ("label in ['A', 'C']", [0, 1, 4]),
        ("`n x` > 2 or n < 2", [0, 2, 3, 4]),
        ("not label == 'B'", [0, 1, 4]),
        ("text.str.startswith('CD')", [0, 2]),
        ("text == 'x@y'", [3]),
        ("text == 'a__b'", [4]),
        ("n.isna() or label.isin(['C'])", [2, 4]),
        ("ok", [0, 3]),
        ("index == 'v'", [0]),
        (["z", "v", "z"], [0, 4]),
        (pd.Index(["w"]), [1]),
    ],
)
def test_what_is_chosen(obs, cells, expected):
    chosen, others = chosen_and_others(obs, cells, None)
    assert chosen.tolist() == expected
    assert others.tolist() == [i for i in range(5) if i not in expected]


def test_others_may_be_named(obs):
    chosen, others = chosen_and_others(obs, "label == 'B'", ["v"])
    assert (chosen.tolist(), others.tolist()) == ([2, 3], [0])


@pytest.mark.parametrize(
    ("cells", "against", "message"),
    [
        ("label == 'Z'", None, "Expected at least one cell, got none by"),
        ([], None, "at least one cell"),
        (["q"], None, "names of cells in the matrix, got 'q'"),
        ("label == label", None, "got all 5, with none left"),
        ("label == 'B'", "n > 3", "got 1 in both, the first 'y'"),
        ("lab == 1", None, "columns of obs, got 'lab'.*There are: label, n x, n, text, ok"),
        ("`nope` == 1", None, "got 'nope'"),
        ("label ==", None, "no such syntax"),
        ("", None, "no such syntax"),
        ("label == @x", None, "no such syntax"),
        ("n @ n", None, "with matmult"),
        ("label > 3", None, "Unordered Categoricals"),
        ("n + 1", None, "true or false of each cell"),
        ("1 == 1", None, "true or false of each cell"),
        ("label = 'B'", None, "no such syntax"),
        ("__import__('os')", None, "with call"),
        ("text.map(print) == 1", None, "with call"),
        ("n.isin(text.map(print))", None, "with call"),
        ("n.__class__ == 1", None, "with attribute"),
        ("[1 for x in n]", None, "with listcomp"),
        ("n ** 9 > 1", None, "with pow"),
    ],
)
def test_what_is_refused(obs, cells, against, message):
    with pytest.raises(PlatewiseError, match=message) as raised:
        chosen_and_others(obs, cells, against)
    assert "\n" not in str(raised.value)


def test_no_method_that_writes_is_called(obs, tmp_path):
    with pytest.raises(PlatewiseError, match="with call"):
        chosen_and_others(obs, f"label.to_csv('{tmp_path / 'stolen'}')", None)
    assert not list(tmp_path.iterdir())


def test_a_name_twice_is_refused(obs):
    with pytest.raises(PlatewiseError, match="each cell once, got 'v'"):
        chosen_and_others(obs.set_axis(list("vvxyz")), "label == 'B'", None)
