"""The documentation: its Python runs, everything public has a page, and the site builds without a warning."""

import importlib
import logging
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import typer
from platewise.cli import app, main
from platewise.data import read_cells, write_h5ad

from ..made_data import few_epochs, write_10x

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
BLOCK = re.compile(
    r"^```python\n(.*?)^```", flags=re.DOTALL | re.MULTILINE
)  # with anything after `python`, it is not run
COMMANDS = re.compile(r"^```sh\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)
PAGES = {str(path.relative_to(DOCS)): path for path in sorted(DOCS.rglob("*.md"))}
WITH_CODE = {name: path for name, path in PAGES.items() if BLOCK.search(path.read_text(encoding="utf-8"))}


def write_cells(monkeypatch) -> None:
    for lane in ("lane1", "lane2"):
        write_10x(Path(lane), n_cells=60, n_genes=2050, names=("MS4A1", "CD79A"))
    write_h5ad(read_cells("lane1"), "cells.h5ad")
    few_epochs(monkeypatch)


MAKERS = {"cells.md": write_cells}  # of pages that read files
LONG = {"guide.md", "own-model.md"}  # pages that take some ten seconds each


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, id=name, marks=[pytest.mark.slow] * (name in LONG)) for name, path in WITH_CODE.items()],
)
def test_python_of_a_page_runs_in_order(path, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    torch.set_default_dtype(torch.float32)  # as outside the tests
    MAKERS.get(str(path.relative_to(DOCS)), lambda _: None)(monkeypatch)
    names: dict[str, object] = {"__name__": "page"}
    for block in BLOCK.findall(path.read_text(encoding="utf-8")):
        exec(compile(block, str(path), "exec"), names)


@pytest.mark.slow
def test_commands_of_a_model_of_ones_own_run_in_order(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    torch.set_default_dtype(torch.float32)
    (block,) = COMMANDS.findall((DOCS / "own-model.md").read_text(encoding="utf-8"))
    for command in block.splitlines():
        shorter = " --epochs 2" if command.startswith("platewise fit") else ""
        with pytest.raises(SystemExit) as ended:
            main(shlex.split(command + shorter)[1:])
        assert ended.value.code in (0, None), (command, capfd.readouterr().err)
    assert Path("posterior.nc").is_file()


@pytest.mark.parametrize("page", ["guide.md", "own-model.md"])
def test_figures_of_a_page_are_small_and_say_what_made_them(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    for name in re.findall(r"\]\((figures/\S+\.png)\)", text):
        assert (DOCS / name).stat().st_size < 200_000, name
        after = text.partition(name)[2]
        (script,) = re.findall(r"`python (examples/\w+\.py) [^`]+`", after)[:1]
        assert (ROOT / script).is_file(), script


@pytest.fixture
def hook(monkeypatch):
    """A module of docs/hooks, by name."""
    monkeypatch.syspath_prepend(DOCS / "hooks")
    return importlib.import_module


@pytest.mark.parametrize("package", ["models", "guides", "inference", "posterior", "data"])
def test_everything_public_has_a_page(package, hook):
    pages = hook("code_pages").code_pages()
    public = set(importlib.import_module(f"platewise.{package}").__all__)
    shown = {name for page in pages for name in re.findall(r"^::: platewise\S+\.(\w+)$", page.text, re.MULTILINE)}
    assert public <= shown | {page.title for page in pages}


def test_models_and_likelihoods_are_told_apart(hook):
    sections = {page.title: page.uri for page in hook("code_pages").code_pages()}
    assert sections["VAE"] == "models/vae.md"
    assert sections["RowLikelihood"] == "likelihoods/row_likelihood.md"


def test_references_become_a_list(hook):
    text = hook("code_pages").as_markdown("Story.\n\nReferences:\n    A (2001), one\n    title.\n    B (2002), two.\n")
    assert text == "Story.\n\n**References**\n\n- A (2001), one title.\n- B (2002), two.\n"


def test_navigation_takes_the_pages_of_a_folder(hook):
    pages, page = hook("pages"), hook("code_pages").Page
    nav = [{"Home": "index.md"}, {"Guides": "guides/"}, {"More": [{"None": "nowhere/"}]}]
    expanded = pages.expanded(nav, [page("guides/b.md", "B", ""), page("guides/of/c.md", "C", "")])
    assert expanded == [{"Home": "index.md"}, {"Guides": [{"B": "guides/b.md"}]}]


def test_every_command_and_option_is_on_its_page(hook):
    text = hook("command_page").command_page().text
    for name, command in typer.main.get_command(app).commands.items():
        section = text.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        assert command.params
        assert all(option.opts[0] in section for option in command.params if option.opts[0].startswith("-")), name


def equation(text: str, hook) -> str:
    html = f'<p><span class="arithmatex">\\({text}\\)</span></p>'
    return hook("mathml").on_page_content(html, page=SimpleNamespace(file=SimpleNamespace(src_uri="x.md")))


def test_an_equation_becomes_mathml(hook):
    html = equation(r"x &lt; \log y", hook)
    assert html.startswith("<p><math")
    assert "<mi>log</mi>" in html
    assert "arithmatex" not in html


def test_an_unknown_command_is_a_warning(hook, caplog):
    with caplog.at_level(logging.WARNING):
        assert r"\nosuch" in equation(r"\nosuch", hook)
    assert "x.md" in caplog.text


def test_the_site_builds_strictly(tmp_path):
    # Not --quiet: with it, warnings are not counted.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    page = (tmp_path / "site" / "models" / "latent_factor.html").read_text(encoding="utf-8")
    assert "<table>" in page
    assert "<math" in (tmp_path / "site" / "guide.html").read_text(encoding="utf-8")
    assert not re.findall(r'<(?:script|link|img|iframe)[^>]+(?:src|href)="?(?:https?:)?//', page), (
        "fetched from a network"
    )
