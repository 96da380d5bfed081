"""Files and folders written whole or not at all: the path is free, there is room, and the name is taken last."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import PlatewiseError

_MARGIN = 1 << 20  # bytes for HDF5's own tables


def require_free(path: Path | str, *, force: bool = False, mark: str = "") -> None:
    """Check that a path may be written.

    Args:
        path: Where something is to be written.
        force: Whether what is there may be replaced.
        mark: Of a folder: a file that shows that it is one of ours; no other folder is ever replaced.

    Raises:
        PlatewiseError: If the path exists and may not be replaced, or its parent folder does not exist.
    """
    path = Path(path)
    if not path.absolute().parent.is_dir():
        raise PlatewiseError(
            f"Expected a folder to write into, got {path.parent}, which does not exist. Create it first."
        )
    if not os.path.lexists(path):
        return
    if not force:
        raise PlatewiseError(
            f"Expected a path that is free, got {path}, which exists. Say force (--force) to replace it."
        )
    if mark and not ((path / mark).exists() or (path.is_dir() and not any(path.iterdir()))):
        raise PlatewiseError(
            f"Expected a folder with {mark} to replace, got something else: {path}. Choose another path."
        )
    if not mark and path.is_dir():
        raise PlatewiseError(f"Expected a file to replace, got a folder: {path}. Choose another path.")


@contextmanager
def whole_file(path: Path | str, *, force: bool = False) -> Iterator[Path]:
    """A path beside `path` to write to, that takes its name when the block ends well.

    Args:
        path: The file's name in the end.
        force: Replace a file that is there.

    Yields:
        The path to write to, with the same suffix. The file is removed if the block raises.

    Raises:
        PlatewiseError: If the path exists and may not be replaced, its folder does not exist, or the disk refuses.
    """
    path = Path(path)
    require_free(path, force=force)
    temporary = _beside(path, path.suffix)
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise _not_written(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


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
        raise _not_written(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _beside(path: Path, suffix: str = "") -> Path:
    """A free name in the same folder, so that taking the name is a rename within one file system."""
    return path.absolute().with_name(f".{path.name.removesuffix(suffix)}.{secrets.token_hex(4)}.part{suffix}")


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


def _not_written(path: Path, error: OSError) -> PlatewiseError:
    reason = error.strerror or " ".join(str(error).split())
    return PlatewiseError(f"Expected to write {path}, got: {reason}. Is the disk full or read-only?")


def require_space(path: Path | str, n_bytes: int) -> None:
    """Check that a file or folder of this size can be written: HDF5 does not survive a disk that fills up under it.

    Args:
        path: The file or folder to be written.
        n_bytes: Size of what it will hold.

    Raises:
        PlatewiseError: If the disk, or a quota, does not allow it.
    """
    path = Path(path)
    trial = _beside(path)
    try:
        _reserve(trial, n_bytes + _MARGIN)
    except OSError as error:
        raise PlatewiseError(
            f"Expected to write {path}, about {n_bytes / 1e6:,.1f} MB, got: {error.strerror}. Free some space."
        ) from error
    finally:
        trial.unlink(missing_ok=True)


def _reserve(trial: Path, n_bytes: int) -> None:
    if not hasattr(os, "posix_fallocate"):
        if shutil.disk_usage(trial.parent).free < n_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return
    with trial.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, n_bytes)
