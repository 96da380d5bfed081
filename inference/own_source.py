"""Source of models and guides of one's own: run from a file, copied into run directories, and run again on trust.

A model is one file: what it imports must be installed. Source that Platewise runs is read once and remembered, so that
what a fit keeps is what was run, whatever has become of the file since.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from ..data.errors import PlatewiseError
from .faithful_source import imported_from_beside, is_as_run, is_installed

FOLDER = "source"  # of a run directory
REMEMBERED = "__platewise_source__"  # attribute of a module that was run from here


@dataclass(frozen=True)
class OwnSource:
    """A file of Python as it was run.

    Attributes:
        path: The file.
        text: What it held.
    """

    path: Path
    text: bytes

    @property
    def digest(self) -> str:
        """Its SHA-256, in hexadecimal digits."""
        return hashlib.sha256(self.text).hexdigest()


def run_file(path: Path) -> ModuleType:
    """A file of Python as a module; one that has run already, and has not changed since, is not run again.

    Args:
        path: The file.

    Returns:
        The module, under a name of its own.

    Raises:
        PlatewiseError: Naming the line, if the file does not run; or if it is not there.
    """
    path = path.absolute()
    if not path.is_file():
        raise PlatewiseError(f"Expected a file of Python, got {path}, which is no file. Check the path.")
    source = OwnSource(path, path.read_bytes())
    name = f"_own_{path.stem}_{hashlib.sha256(str(path).encode() + source.text).hexdigest()[:16]}"
    if name not in sys.modules:
        _run(source, name)
    return sys.modules[name]


def _run(source: OwnSource, name: str) -> None:
    spec = importlib.util.spec_from_file_location(name, source.path)
    if spec is None:
        raise PlatewiseError(f"Expected a file of Python, got {source.path}. Give it a name that ends in .py.")
    module = importlib.util.module_from_spec(spec)
    setattr(module, REMEMBERED, source)
    sys.modules[name] = module  # dataclasses look themselves up there while they are made
    try:
        exec(compile(source.text, str(source.path), "exec", dont_inherit=True), module.__dict__)
    except (Exception, SystemExit) as error:  # whatever a person's own code may raise
        del sys.modules[name]
        raise PlatewiseError(f"Expected source that runs, got {what_went_wrong(error, source.path)}") from error
    except BaseException:
        del sys.modules[name]
        raise


def what_went_wrong(error: BaseException, path: Path) -> str:
    """An error of a person's own source in one line: where in the file, what, and what to do."""
    said = f"{type(error).__name__}: {error.msg if isinstance(error, SyntaxError) else error}"
    line = error.lineno if isinstance(error, SyntaxError) else _line_in(error, path)
    where = f"{path}, line {line}" if line else str(path)
    remedy = "A model is one file: what it imports must be installed" if isinstance(error, ImportError) else "Mend it"
    return f"{' '.join(said.split()).rstrip('.')} ({where}). {remedy}."


def _line_in(error: BaseException, path: Path) -> int | None:
    """The last line of the file that an error passed through; None if it passed through none."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return lines[-1] if lines else None


def own_source(thing: Any) -> OwnSource | None:
    """The source of a class or function of a person's own.

    Args:
        thing: The class or function.

    Returns:
        Its file; None where no file can be run again to get it: it is installed, made inside a function, typed into a
        notebook or the script that runs, changed since it was imported, or needs other files that are not installed.
    """
    found = _file(thing)
    if found is None:
        return None
    module, source = found
    as_run = hasattr(module, REMEMBERED) or is_as_run(module, source.text)
    return source if as_run and imported_from_beside(module, source.text) is None else None


def require_one_file(thing: Any) -> None:
    """Check that a class or function of a person's own needs no file beside its own, which a copy would lack.

    Raises:
        PlatewiseError: Naming what it imports that is not installed.
    """
    found = _file(thing)
    beside = imported_from_beside(found[0], found[1].text) if found else None
    if found and beside is not None:
        raise PlatewiseError(
            f"Expected a model in one file, got {found[1].path} with an import of {beside}, which is not installed. "
            "Write what it takes from there into the file, or install that (not as an editable package)."
        )


def _file(thing: Any) -> tuple[ModuleType, OwnSource] | None:
    """The module of a class or function, and its file as it was run, or else as it is now."""
    home = getattr(thing, "__module__", None) or ""
    module = sys.modules.get(home)
    if module is None or home == "__main__" or home.startswith("platewise.") or "<" in thing.__qualname__:
        return None
    if isinstance(remembered := getattr(module, REMEMBERED, None), OwnSource):
        return module, remembered
    path = Path(getattr(module, "__file__", None) or "")
    if path.suffix != ".py" or not path.is_file() or is_installed(path):
        return None
    return module, OwnSource(path, path.read_bytes())


@dataclass
class Gathered:
    """Sources that a fit needs, each once, by the names that their copies are to have.

    Attributes:
        texts: What they hold.
    """

    texts: dict[str, bytes] = field(default_factory=dict)

    def add(self, source: OwnSource) -> str:
        """Take a file in.

        Returns:
            Where its copy is to be inside the run directory; two files of one name are told apart.
        """
        stem, n = source.path.stem, 1
        while self.texts.get(file := f"{FOLDER}/{stem}{'' if n == 1 else f'_{n}'}.py", source.text) != source.text:
            n += 1
        self.texts[file] = source.text
        return file

    def write(self, run: Path) -> dict[str, str]:
        """Write the copies into a run directory; SHA-256 of each, by its name."""
        if self.texts:
            (run / FOLDER).mkdir()
        for file, text in self.texts.items():
            (run / file).write_bytes(text)
        return {file: hashlib.sha256(text).hexdigest() for file, text in self.texts.items()}


@dataclass(frozen=True)
class Copies:
    """Copies of source inside a run directory, to be run if they are trusted.

    Attributes:
        run: The run directory.
        digests: SHA-256 of each, by its name.
        trusted: Whether a person has said that they may be run.
    """

    run: Path
    digests: Mapping[str, str]
    trusted: bool

    def module(self, file: str, kind: str, name: str) -> ModuleType:
        """Run a copy.

        Args:
            file: Its name.
            kind: What is wanted of it, "model" or "guide".
            name: What that is called in it.

        Raises:
            PlatewiseError: If it is not trusted, has changed since the fit, or does not run.
        """
        path = self.run / file
        if not self.trusted:
            raise PlatewiseError(
                f"Expected the {kind} {name} of this fit, which is not one of Platewise's own, got none, and loading "
                f"would run its source. Look at {path}, then pass load(..., trust_source=True), or the {kind} as made "
                f"for the fit: load(..., {kind}=...)."
            )
        if file not in self.digests or Path(file).parent != Path(FOLDER) or not path.is_file():
            raise PlatewiseError(f"Expected {path}, got no such copy of source. Copy the run directory again.")
        if OwnSource(path, path.read_bytes()).digest != self.digests[file]:
            raise PlatewiseError(
                f"Expected {path} as the fit left it, got a file that was changed since. Copy the run directory again, "
                "or fit again with the changed source."
            )
        return run_file(path)
