"""A folder written whole or not at all."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..data.errors import PlatewiseError
from ..data.writing import require_free


@contextmanager
def whole_folder(path: Path | str, *, force: bool = False, mark: str) -> Iterator[Path]:
    """A folder to write into, beside `path`, that takes its name when the block ends well.

    Args:
        path: The folder's name in the end.
        force: Replace a folder of this name; the old one stays until the new one is whole.
        mark: A file that every such folder holds; a folder without it is never replaced.

    Yields:
        The folder to write into. It is removed if the block raises.

    Raises:
        PlatewiseError: If the path exists and may not be replaced, or the disk refuses.
    """
    path = Path(path).absolute()
    require_free(path, force=force, mark=mark)
    temporary = _beside(path)
    try:
        temporary.mkdir()
        yield temporary
        _swap(temporary, path)
    except OSError as error:
        reason = error.strerror or error
        raise PlatewiseError(f"Expected to write {path}, got: {reason}. Is the disk full or read-only?") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _beside(path: Path) -> Path:
    """A free name in the same folder, so that taking the name is a rename within one file system."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


def _swap(new: Path, path: Path) -> None:
    if not path.exists():
        new.rename(path)
        return
    old = _beside(path)
    path.rename(old)
    try:
        new.rename(path)
    except BaseException:
        old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)
