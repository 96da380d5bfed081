"""Generated pages: of the code, the command line, the examples, and Markdown that lives beside the code.

An entry of `nav` in mkdocs.yml that ends in a slash, `models/`, becomes the pages of that folder.
"""

import ast
import re
import shutil
from pathlib import Path
from typing import Any

from code_pages import PACKAGES, ROOT, Page, as_markdown, code_pages
from command_page import command_page
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files

COPY = "build/docs"  # where mkdocstrings reads the package
COPIES = {  # found beside the code, where people look first
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/RESULTS.md": "benchmarks.md",
}


@event_priority(100)  # before mkdocstrings, which looks for the package once
def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the package where mkdocstrings reads it, and the pages of each folder into the navigation."""
    put_together(ROOT / COPY / "platewise")
    config.nav = expanded(config.nav, generated())
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to those of `docs/`."""
    for page in generated():
        files.append(File.generated(config, page.uri, content=page.text))
    return files


def on_page_content(content: str, **_: Any) -> str:
    """Name sources by their place in the repository, not by that of the copy."""
    return content.replace(f"{COPY}/platewise/", "")


def generated() -> list[Page]:
    """All pages that are not files of `docs/`."""
    scripts = sorted((ROOT / "examples").rglob("*.py"))
    return [*map(_copy, COPIES), *code_pages(), *map(_script_page, scripts), command_page()]


def put_together(package: Path) -> None:
    """Copy the package's sources, with an `__init__.py` in every folder.

    Without these the package would be a namespace, of which a program `platewise` on the path would be part.
    """
    shutil.rmtree(package, ignore_errors=True)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, package / name, ignore=shutil.ignore_patterns("__pycache__"))
        (package / name / "__init__.py").touch()
    (package / "__init__.py").touch()


def expanded(nav: Any, pages: list[Page]) -> Any:
    """The navigation with folders, `models/`, replaced by their pages; one without pages is left out."""
    if isinstance(nav, str) and nav.endswith("/"):
        return [{page.title: page.uri} for page in pages if str(Path(page.uri).parent) == nav.rstrip("/")]
    if isinstance(nav, dict):
        return {title: expanded(entry, pages) for title, entry in nav.items()}
    if isinstance(nav, list):
        return [x for x in (expanded(entry, pages) for entry in nav) if x and all(x.values())]
    return nav


def _copy(source: str) -> Page:
    """A file from beside the code; links to others of its kind, and to `docs/`, lead to their pages."""
    text = (ROOT / source).read_text(encoding="utf-8")
    for path, uri in COPIES.items():
        text = text.replace(f"]({path}", f"]({uri}")
    return Page(COPIES[source], source, re.sub(r"\]\(docs/", "](", text))


def _script_page(path: Path) -> Page:
    """What a script says of itself, and the script."""
    source = path.read_text(encoding="utf-8")
    story = as_markdown(ast.get_docstring(ast.parse(source)) or "")
    where = path.relative_to(ROOT)
    text = f"# {path.stem}\n\n`{where}`\n\n{story}\n\n````python\n{source}````\n"
    return Page(str(where.with_suffix(".md")), path.stem, text)
