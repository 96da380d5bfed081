"""Whether the text of a file is the whole of what a module of a person's own ran: unchanged, and nothing beside it."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import site
import sys
import sysconfig
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

_FOLDERS = {"site-packages", "dist-packages"}


def is_installed(path: Path) -> bool:
    """Whether a file came with Python or was installed as part of a package."""
    # An installer may have put links there, and folders may be reached by links.
    spelled = (path.absolute(), path.resolve())
    return any(_FOLDERS & set(p.parts) or any(p.is_relative_to(place) for place in _places()) for p in spelled)


@cache
def _places() -> frozenset[Path]:
    known = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    places = [Path(place) for place in (*known, *site.getsitepackages(), site.getusersitepackages())]
    return frozenset(form for place in places for form in (place.absolute(), place.resolve()))


def imported_from_beside(module: ModuleType, text: bytes) -> str | None:
    """What a module takes from files that are neither installed nor Platewise's; a copy of its file lacks that.

    Args:
        module: The module.
        text: What its file holds.

    Returns:
        The name of the first such module; None if there is none.
    """
    names = (*_imports(text), *_homes(module))
    return next((name for name in names if name != module.__name__ and _is_beside(name)), None)


def _imports(text: bytes) -> Iterator[str]:
    """Names of modules in the import statements of a text, wherever they stand."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _homes(module: ModuleType) -> Iterator[str]:
    """Names of the modules that the globals of a module are, or are from."""
    for value in list(vars(module).values()):
        has_home = isinstance(value, type | FunctionType)
        yield value.__name__ if isinstance(value, ModuleType) else (value if has_home else type(value)).__module__


def _is_beside(name: str) -> bool:
    top = name.partition(".")[0]  # empty where an import is relative: to a package that one file does not have
    if top in ("platewise", ""):
        return not top
    return any(not is_installed(file) for known in {top, name} for file in _files(known))


def _files(name: str) -> list[Path]:
    """The file of a module, or the folders of a package without one; none of what is built in or not there."""
    module = sys.modules.get(name)
    if module is not None:
        file = getattr(module, "__file__", None)
        folders = () if file else getattr(module, "__path__", ())
    else:
        spec = None if "." in name else importlib.util.find_spec(name)
        file = spec.origin if spec and spec.has_location else None
        folders = (spec.submodule_search_locations or ()) if spec and not file else ()
    return [Path(place) for place in ((file,) if file else folders)]


def is_as_run(module: ModuleType, text: bytes) -> bool:
    """Whether a text is what made the functions, plain constants and default arguments of a module.

    Args:
        module: The module.
        text: What its file holds by now.
    """
    try:
        tree = ast.parse(text)
        codes = _codes(compile(text, "<text>", "exec", dont_inherit=True))
    except (SyntaxError, ValueError):
        return False
    done = all(_print_of(f.__code__) in codes[f.__code__.co_qualname] for f in _functions(module, vars(module)))
    return done and all(_same(said, there) for said, there in _plain_values(tree, vars(module)))


def _codes(code: CodeType) -> defaultdict[str, set[str]]:
    """What the functions of a compiled text do, by their qualified names, which several may share."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    waiting = [code]
    while waiting:
        inner = [x for x in waiting.pop().co_consts if isinstance(x, CodeType)]
        waiting += inner
        for x in inner:
            found[x.co_qualname].add(_print_of(x))
    return found


def _print_of(code: CodeType) -> str:
    constants = [_print_of(x) if isinstance(x, CodeType) else _ordered(x) for x in code.co_consts]
    return repr((code.co_code, code.co_names, code.co_varnames, code.co_freevars, constants))


def _ordered(constant: Any) -> str:
    return repr(sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant)


def _functions(module: ModuleType, names: Mapping[str, Any], inside: str = "") -> Iterator[FunctionType]:
    """Functions that a module wrote itself, those of its classes included."""
    for name, value in list(names.items()):
        if inspect.isclass(value) and (value.__module__, value.__qualname__) == (module.__name__, inside + name):
            yield from _functions(module, vars(value), f"{inside}{name}.")
        for function in _behind(value):
            # What dataclasses write has the globals of the module too, and no file.
            if function.__globals__ is vars(module) and not function.__code__.co_filename.startswith("<"):
                yield function


def _behind(value: Any) -> list[FunctionType]:
    """The functions in a method, a property or a decorated function."""
    parts = (value.fget, value.fset, value.fdel) if isinstance(value, property) else (value,)
    bare: list[Any] = [part.__func__ if isinstance(part, staticmethod | classmethod) else part for part in parts]
    wraps = [isinstance(x, FunctionType) or inspect.getattr_static(x, "__wrapped__", None) is not None for x in bare]
    functions = (inspect.unwrap(x) for x, may_be in zip(bare, wraps, strict=True) if may_be)
    return [x for x in functions if isinstance(x, FunctionType)]


def _plain_values(body: ast.Module | ast.ClassDef, names: Mapping[str, Any]) -> Iterator[tuple[ast.expr | None, Any]]:
    """Values that a text gives to names and default arguments, each with what a module has there."""
    for name, node in _said_once(body).items():
        there = names.get(name, ...)
        if isinstance(node, ast.ClassDef) and inspect.isclass(there):
            yield from _plain_values(node, vars(there))
        elif isinstance(node, ast.FunctionDef):
            for function in _behind(there):
                yield from _defaults(node.args, function)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            yield node.value, there


def _said_once(body: ast.Module | ast.ClassDef) -> dict[str, ast.stmt]:
    """Statements that give a name its value, of the names that nothing else gives another."""
    said: defaultdict[str, list[ast.stmt]] = defaultdict(list)
    for node in ast.walk(body):
        if isinstance(node, ast.Global):
            for name in node.names:
                said[name] += [node, node]
    for node in body.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        named = [node.name] if isinstance(node, ast.FunctionDef | ast.ClassDef) else []
        for name in (*named, *(x.id for x in targets if isinstance(x, ast.Name))):
            said[name].append(node)
    return {name: nodes[0] for name, nodes in said.items() if len(nodes) == 1}


def _defaults(given: ast.arguments, function: FunctionType) -> Iterator[tuple[ast.expr | None, Any]]:
    yield from zip(given.defaults, function.__defaults__ or (), strict=False)
    by_name = function.__kwdefaults__ or {}
    yield from ((x, by_name.get(a.arg, ...)) for a, x in zip(given.kwonlyargs, given.kw_defaults, strict=True))


def _same(said: ast.expr | None, there: Any) -> bool:
    """Whether a value is what a text says, as far as both are plain."""
    try:
        plain = ast.literal_eval(said) if said is not None else ...
    except (ValueError, TypeError, SyntaxError):
        return True
    kinds = (bool, int, float, complex, str, bytes, tuple, type(None))
    return type(plain) not in kinds or type(there) not in kinds or repr(plain) == repr(there)
