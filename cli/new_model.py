"""`platewise new-model`: a model and a guide to start one's own from, and their tests."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Force


def new_model(
    file: Annotated[Path, typer.Argument(metavar="FILE.py", help="The file to write; its tests go beside it.")],
    force: Force = False,
) -> None:
    """Write a small model and guide, with comments, that fit, predict and recommend as they stand; and their tests.

    Change them to what you have in mind. A model is one file: a run of it keeps a copy, which is run only with --trust.

    Example:
        platewise new-model my_model.py
    """
    from ..data.writing import require_free, whole_file
    from .template import MODEL, TESTS

    _require_module_name(file)
    tests = file.with_name(f"test_{file.name}")
    for path in (file, tests):
        require_free(path, force=force)
    texts = {file: MODEL, tests: TESTS.format(tests=tests, stem=file.stem)}
    for path, text in texts.items():
        with whole_file(path, force=force) as written:
            written.write_text(text, encoding="utf-8")
    _say_what_next(file, tests)


def _require_module_name(file: Path) -> None:
    from keyword import iskeyword

    from ..data.errors import PlatewiseError

    if file.suffix != ".py" or not file.stem.isidentifier() or iskeyword(file.stem):
        raise PlatewiseError(
            f"Expected a name that Python can import, letters, digits and _ before .py, got {file.name}. Say, for "
            "example, my_model.py."
        )


def _say_what_next(file: Path, tests: Path) -> None:
    from .program import command

    typer.echo(f"{file}: MyModel and MyGuide\n{tests}: their tests")
    fit = command("fit", "DATA.h5ad", "--model", f"{file}:MyModel", "--guide", f"{file}:MyGuide", "-o", "RUN")
    typer.echo(f"next: {fit}\n      python -m pytest {tests}")
