"""A page needs nothing but itself, escapes what it is given, and is the same each time."""

import re

import pandas as pd
import pytest
from platewise.posterior.report_page import Answer, Section, drawn, page, shown, tabled


def line(axes):
    axes.plot([0, 1], [0, 1])
    axes.set(xlabel="<x>")


def whole():
    frame = pd.DataFrame({"name": ["a & b", "<i>"], "value": [0.12345, float("nan")], "n": [1234567, 2]})
    sections = [
        Section("One & two", ["text <script>alert(1)</script>"], [Answer("ranking", "no", "k-hat 0.9 > 0.7")]),
        Section("Three", verbatim="y ~ Normal(mu, 1) <", figures=[drawn(line, "a line")], tables=[tabled(frame)]),
    ]
    return page("A <title>", "sub", sections)


def test_nothing_is_fetched_and_nothing_runs():
    html = whole()
    addresses = re.findall(r'(?:src|href)="([^"]*)"', html)
    assert all(address.startswith("#") for address in addresses)  # parts of the figure itself
    assert "<script" not in html
    assert "@import" not in html
    assert "url(http" not in html


def test_what_is_given_is_escaped_and_figures_are_not():
    html = whole()
    for text in (
        "A &lt;title&gt;",
        "One &amp; two",
        "&lt;script&gt;",
        "a &amp; b",
        "y ~ Normal(mu, 1) &lt;",
        "0.9 &gt; 0.7",
    ):
        assert text in html
    assert "<svg" in html
    assert "<?xml" not in html


def test_the_same_page_twice_is_the_same_bytes():
    assert whole() == whole()


def test_numbers_stand_to_the_right_and_gaps_stay_empty():
    html = whole()
    assert '<td class="number">0.123</td>' in html
    assert '<td class="number">1,234,567</td>' in html
    assert '<td class="number"></td>' in html


@pytest.mark.parametrize(
    ("value", "text"), [(True, "yes"), (1.5, "1.500"), (-2e6, "-2,000,000"), (7, "7"), (12345, "12,345"), ("a", "a")]
)
def test_values_as_a_person_reads_them(value, text):
    assert shown(value) == text
