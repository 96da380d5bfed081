"""Pages that follow from the code: one per file that a package exports something from, so that none is listed by hand.

Code is read, not imported. Of a file there are its docstring, as Markdown, and mkdocstrings' page of each public name.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("models", "guides", "inference", "posterior", "data", "testing")


@dataclass(frozen=True)
class Page:
    """A generated page: its place among the sources of the site, its title and its Markdown."""

    uri: str
    title: str
    text: str


@dataclass(frozen=True)
class Module:
    """A file of a package, and what people import: names from it, or the module itself."""

    path: Path
    names: tuple[str, ...]
    itself: bool = False

    @property
    def package(self) -> str:
        """Folder of the file."""
        return self.path.parent.name


def code_pages() -> list[Page]:
    """A page for every file that exports something, by title within its package."""
    made = [_page(module) for package in PACKAGES for module in exporting(ROOT / package)]
    return sorted(made, key=lambda page: page.title.lower())


def exporting(folder: Path) -> Iterator[Module]:
    """Files that the package's `__init__.py` imports from; all files of a package without one."""
    start = folder / "__init__.py"
    if not start.exists():
        yield from (Module(path, _public(path), itself=True) for path in sorted(folder.glob("*.py")))
        return
    for node in _tree(start).body:
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            names = tuple(alias.name for alias in node.names)
            if node.module:
                yield Module(folder / f"{node.module}.py", names)
            else:
                paths = [folder / f"{name}.py" for name in names]
                yield from (Module(path, _public(path), itself=True) for path in paths)


def as_markdown(docstring: str) -> str:
    """A module's docstring as Markdown: references become a list, blocks and tables stand as they are."""
    return re.sub(r"^References:\n((?: +.*(?:\n|$))+)", _listed, docstring, flags=re.MULTILINE)


def _listed(found: re.Match[str]) -> str:
    one_line_each = re.sub(r"(?<![.?])\n +", " ", found[1].strip())
    return "**References**\n\n" + "".join(f"- {line.strip()}\n" for line in one_line_each.splitlines())


def _page(module: Module) -> Page:
    stem, tree = module.path.stem, _tree(module.path)
    title = stem if module.itself else ", ".join(module.names)
    story = as_markdown(ast.get_docstring(tree) or "")
    members = "\n\n".join(f"::: platewise.{module.package}.{stem}.{name}" for name in module.names)
    text = f"# {title}\n\n    from platewise.{module.package} import {title}\n\n{story}\n\n{members}\n"
    return Page(f"{_section(module, tree)}/{stem}.md", title, text)


def _section(module: Module, tree: ast.Module) -> str:
    """The package; but of `models`, only what is called with a batch: the rest are likelihoods and their like."""
    classes = [x for x in tree.body if isinstance(x, ast.ClassDef) and x.name in module.names]
    called = any(isinstance(x, ast.FunctionDef) and x.name == "forward" for c in classes for x in c.body)
    return "likelihoods" if module.package == "models" and not called else module.package


def _public(path: Path) -> tuple[str, ...]:
    defined = (x.name for x in _tree(path).body if isinstance(x, ast.ClassDef | ast.FunctionDef))
    return tuple(name for name in defined if not name.startswith("_"))


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))
