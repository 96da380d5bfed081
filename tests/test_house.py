"""The layout of the project: what may import what, what is packaged, how long a file may be."""

import ast
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("data", "models", "guides", "inference", "posterior", "cli", "testing")
MAY_IMPORT = {
    "data": set(),
    "models": {"data"},
    "guides": {"data"},
    "inference": {"data"},
    "posterior": {"data", "models", "guides", "inference"},
    "cli": {"data", "models", "guides", "inference", "posterior"},
    "testing": {"data", "inference"},
}
SOURCES = [path for name in PACKAGES for path in sorted((ROOT / name).rglob("*.py"))]
FILES = [*SOURCES, *(p for name in ("tests", "benchmarks", "examples") for p in sorted((ROOT / name).rglob("*.py")))]
MOST_LINES = 300
OURS = "platewise"


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _imported(path: Path) -> set[str]:
    """The packages of ours that a file imports, wherever in it: relatively, or by the package's own name."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            depth = len(path.relative_to(ROOT).parts) - 1
            parts = (node.module or "").split(".")
            if node.level == depth + 1:
                names |= {parts[0]} if node.module else {alias.name for alias in node.names}
            elif node.level == 0 and parts[0] == OURS:
                names |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith(f"{OURS}.")}
    return names


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_imports_point_one_way(path):
    own = path.relative_to(ROOT).parts[0]
    beyond = _imported(path) - MAY_IMPORT[own] - {own}
    assert not beyond, f"{own} may import {sorted(MAY_IMPORT[own])}, got {sorted(beyond)}"


def test_the_rule_sees_every_kind_of_import(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    (tmp_path / "guides").mkdir()
    for line in (
        "from ..models.x import y",
        "from .. import models",
        "import platewise.models.x",
        "from platewise import models",
    ):
        (tmp_path / "guides" / "a.py").write_text(f"def f():\n    {line}\n")
        assert _imported(tmp_path / "guides" / "a.py") == {"models"}, line


def test_packages_are_the_folders():
    """setuptools maps an explicit list: a folder that it lacks would be missing from the wheel."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {path.parent for path in SOURCES}
    expected = {".".join((OURS, *folder.relative_to(ROOT).parts)) for folder in folders}
    assert sorted(listed) == sorted(expected)


def test_the_static_checker_reads_every_package():
    files = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["files"]
    assert {Path(file).name for file in files} == set(PACKAGES)


def test_the_root_and_testing_are_no_packages_of_their_own():
    """At the root, an `__init__.py` would make one of the checkout; in `testing`, it would hide anndata's."""
    assert not (ROOT / "__init__.py").exists()
    assert not (ROOT / "testing" / "__init__.py").exists()


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_a_file_has_one_idea(path):
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines < MOST_LINES, f"{lines} lines: split it"
    assert not {"utils", "helpers", "common"} & {part.removesuffix(".py") for part in path.relative_to(ROOT).parts}


def test_typed_packages_say_so():
    assert all((ROOT / name / "py.typed").exists() for name in PACKAGES)


def test_python_starts_in_the_checkout_without_hiding_other_packages():
    command = "import anndata, platewise.testing.contract, platewise.data; print(anndata.__file__)"
    done = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "site-packages" in done.stdout


@pytest.mark.slow
def test_the_wheel_holds_everything_and_is_imported_from_elsewhere(tmp_path):
    wheel = _built(tmp_path)
    place = tmp_path / "environment"
    venv.create(place, with_pip=False)
    site = next(place.glob("lib/python*/site-packages"))
    subprocess.run([sys.executable, "-m", "zipfile", "-e", str(wheel), str(site)], check=True)
    borrowed = next(p for p in sys.path if p.endswith("site-packages"))
    modules = [".".join((OURS, *path.relative_to(ROOT).with_suffix("").parts)) for path in SOURCES]
    program = (
        f"import sys; sys.path.append({borrowed!r})\n"  # dependencies, without the checkout's import hook
        f"import {', '.join(m.removesuffix('.__init__') for m in modules if not m.endswith('__main__'))}\n"
        "print(platewise.data.__file__)\n"
    )
    done = subprocess.run(
        [place / "bin" / "python", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert str(place) in done.stdout


def _built(folder: Path) -> Path:
    """The wheel, built from a copy: a build leaves folders behind."""
    copy = folder / "source"
    for name in PACKAGES:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(copy)]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("platewise-*.whl"))
