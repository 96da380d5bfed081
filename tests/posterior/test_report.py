"""A report says what a fit is, how it ended and what it may be used for, and what was not looked at."""

import re

import pytest
import torch
from platewise.data.errors import PlatewiseError
from platewise.guides import RowBlockNormal
from platewise.inference import coordinate_ascent
from platewise.models import LatentFactor
from platewise.posterior import diagnose, recalibrate, report


@pytest.fixture(scope="module")
def small(split):
    return coordinate_ascent.fit(LatentFactor(rank=2), RowBlockNormal(), split[0], progress=False, dtype=torch.float64)


def written(fitted, path, **given):
    found = diagnose(fitted, rows=10, draws=100, **given)
    report(fitted, found, path, data=given.get("data"), name="<mine>")
    return path.read_text(), found


def test_everything_is_there_with_a_test_part_and_data(small, split, tmp_path):
    html, found = written(small, tmp_path / "r.html", test=split[1], data=split[0])
    titles = re.findall("<h2>(.*?)</h2>", html)
    assert titles == [
        "What this posterior may be used for",
        "The model: LatentFactor",
        "What was fitted",
        "How the fit ended",
        "Do the intervals hold?",
        "Beside simple predictors",
        "Does the guide reach the posterior?",
        "Do data drawn from the fit look like the data?",
        "How well are entries predicted without themselves?",
        "Factors",
        "Largest surprises",
    ]
    assert "&lt;mine&gt;: how far to trust it" in html
    assert "Y_ij ~ Normal(mu + a_i + b_j + A_i . B_j, sigma^2)" in html
    assert f"It stopped because: {small.stopped}." in html
    assert small.fingerprint in html
    assert html.count("<svg") == 6
    for judgement in found.verdict:
        assert f'<span class="answer {judgement.answer}">{judgement.answer}</span><span><b>{judgement.use}</b>' in html
    assert len(re.findall("<tr>", html.split("Largest surprises")[1])) == 21
    of_loo = html.split("How well are entries predicted without themselves?")[1].split("</section>")[0]
    assert f"{found.loo.elpd.value:,.3f}" in of_loo
    assert f"{found.loo.over.sum():,} of 1,000 k-hats ({found.loo.over.mean():.1%}) are over" in of_loo
    assert "Judged with" not in of_loo


def test_what_was_not_looked_at_is_said(block_fit, tmp_path):
    block_fit.data, kept = None, block_fit.data
    try:
        html, found = written(block_fit, tmp_path / "r.html")
    finally:
        block_fit.data = kept
    assert len(found.left_out) == 2
    assert html.count("Not looked at: ") == 2
    assert "Do the intervals hold?" not in html
    assert "Nothing tested whether the fit had converged" in html
    assert 'class="answer unknown"' in html


def test_a_recalibrated_fit_is_called_one(small, split, tmp_path):
    html, _ = written(recalibrate(small, split[1], parts=1), tmp_path / "r.html")
    assert f"Judged with noise recalibrated on {split[1].X.nnz:,} entries." in html
    assert f"noise recalibrated on {split[1].X.nnz:,} entries" in html


def test_a_file_that_is_there_stays(small, tmp_path):
    path = tmp_path / "r.html"
    path.write_text("mine")
    with pytest.raises(PlatewiseError, match="force"):
        written(small, path)
    assert path.read_text() == "mine"
