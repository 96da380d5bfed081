"""Where files come from: a plain or compressed file, a folder, or a zip archive."""

import io
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, cast

import pyarrow as pa

from .errors import PlatewiseError

DAMAGED = (OSError, EOFError, zlib.error, zipfile.BadZipFile)
"""What reading a damaged file, archive or compressed stream raises."""

_COMPRESSIONS = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd"}


@dataclass(frozen=True)
class File:
    """A file that can be opened again and again, decompressed where its first bytes say so.

    Attributes:
        label: What to call it in an error.
        name: Its base name.
        raw: Opens the bytes as they are stored.
        compression: ``"gzip"``, ``"bz2"``, ``"zstd"`` or None.
    """

    label: str
    name: str
    raw: Callable[[], io.BufferedIOBase]
    compression: str | None = None

    @contextmanager
    def open(self) -> Iterator[Any]:
        """A binary stream of the decompressed bytes (seekable if stored plain), closed at the end."""
        with self.raw() as stored:
            if self.compression is None:
                yield stored
            else:
                yield pa.CompressedInputStream(pa.PythonFile(stored, mode="r"), self.compression)

    @contextmanager
    def text(self, *, strict: bool = True) -> Iterator[io.TextIOWrapper]:
        """The file as UTF-8, line by line; what is not UTF-8 raises, or is replaced if not ``strict``."""
        errors = "strict" if strict else "replace"
        with (
            self.open() as stream,
            io.BufferedReader(stream) as buffered,
            io.TextIOWrapper(buffered, "utf-8-sig", errors, newline="\n") as text,
        ):
            yield text

    def starts_with(self, magic: bytes) -> bool:
        """Whether the file, as stored, begins with these bytes."""
        with self.raw() as stream:
            return stream.read(len(magic)) == magic

    def holds(self, magic: bytes) -> bool:
        """Whether its decompressed bytes begin with these; False where they cannot be read."""
        try:
            with self.open() as stream:
                return stream.read(len(magic)) == magic
        except DAMAGED:
            return False


def file_at(path: str | Path) -> File:
    """A file on disk.

    Raises:
        PlatewiseError: It is missing, empty or may not be read.
    """
    path = Path(path)
    return _file(str(path), path.name, lambda: open(path, "rb"))


def _file(label: str, name: str, raw: Callable[[], io.BufferedIOBase]) -> File:
    head = _head(label, raw)
    if not head:
        raise PlatewiseError(f"Expected ratings, got an empty file: {label}. Was it written or copied whole?")
    kinds = [kind for magic, kind in _COMPRESSIONS.items() if head.startswith(magic)]
    return File(label, name, raw, kinds[0] if kinds else None)


def _head(label: str, raw: Callable[[], io.BufferedIOBase]) -> bytes:
    try:
        with raw() as stream:
            return stream.read(4)
    except FileNotFoundError as error:
        raise PlatewiseError(f"Expected a file, got no such file: {label}. Check the path.") from error
    except (*DAMAGED, RuntimeError) as error:
        raise PlatewiseError(f"Expected a file to read, got {error}: {label}. Check it.") from error


@dataclass(frozen=True)
class Place:
    """A folder or an archive: files found by base name.

    Attributes:
        label: What to call it in an error.
        members: Paths of its files, relative to it.
        opener: Opens a member.
    """

    label: str
    members: tuple[str, ...]
    opener: Callable[[str], io.BufferedIOBase]

    def find(self, *names: str) -> File | None:
        """The first of these names that is there; of several files of one name the one nearest the top."""
        for name in names:
            found = [member for member in self.members if PurePosixPath(member).name == name]
            if found:
                return self.file(min(found, key=lambda member: member.count("/")))
        return None

    def file(self, member: str) -> File:
        """One member as a `File`."""
        label, name = f"{self.label}/{member}", PurePosixPath(member).name
        return _file(label, name, lambda: self.opener(member))


def folder(path: str | Path, *, nested: bool = True) -> Place:
    """A folder and, if ``nested``, the folders directly in it."""
    root = Path(path)
    patterns = ("*", "*/*") if nested else ("*",)
    files = [p for pattern in patterns for p in sorted(root.glob(pattern)) if p.is_file()]
    members = tuple(file.relative_to(root).as_posix() for file in files)
    return Place(str(root), members, lambda member: open(root / member, "rb"))


def archive(path: str | Path) -> Place:
    """A zip archive, read in place: nothing is unpacked to disk.

    Raises:
        PlatewiseError: It is truncated or no zip archive.
    """
    try:
        opened = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise PlatewiseError(
            f"Expected a whole zip archive, got a damaged or truncated one: {path}. Download it again."
        ) from error
    members = tuple(
        info.filename for info in opened.infolist() if not info.is_dir() and not info.filename.startswith("__MACOSX/")
    )
    opened.close()
    return Place(os.fspath(path), members, lambda member: _open_member(path, member))


def _open_member(path: str | Path, member: str) -> io.BufferedIOBase:
    with zipfile.ZipFile(path) as opened:  # the member keeps the file open until it is closed itself
        return cast(io.BufferedIOBase, opened.open(member))
