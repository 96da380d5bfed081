"""A one-dimensional array of an HDF5 file, read in stretches, straight from the file where nothing is compressed.

HDF5 looks up and copies every chunk twice, under a lock that the whole process shares. Where the array's bytes stand
in the file as they are, reading them needs neither: ten times as fast for what the system has in memory.
"""

from __future__ import annotations

import os
import weakref
from typing import Any

import h5py
import numpy as np

_AT_HAND = hasattr(os, "preadv") and hasattr(h5py.h5d.DatasetID, "chunk_iter")  # not everywhere


class Buffer:
    """Memory used again and again: fresh pages cost more than what is read into them."""

    def __init__(self) -> None:
        self._held = np.empty(0)

    def of(self, size: int, dtype: np.dtype) -> np.ndarray:
        """An array of this many elements, at the start of the memory, which grows if it must."""
        if len(self._held) < size or self._held.dtype != dtype:
            self._held = np.empty(size, dtype)  # of its own type: scipy copies small views of large arrays
        return self._held[:size]


class ArrayOnDisk:
    """Stretches of a dataset of one axis.

    Args:
        dataset: The dataset, in a file that is open.
    """

    def __init__(self, dataset: h5py.Dataset) -> None:
        self._dataset, self.dtype, self.length = dataset, dataset.dtype, dataset.shape[0]
        self._chunk, self._places = _places(dataset)
        if len(self._places):
            self._file = os.dup(dataset.file.id.get_vfd_handle())
            weakref.finalize(self, os.close, self._file)
            if not self._is_as_hdf5_has_it():
                self._places = np.empty(0, np.int64)

    @property
    def direct(self) -> bool:
        """Whether it is read straight from the file."""
        return len(self._places) > 0

    def stretches(self, spans: list[tuple[int, int]], buffer: Buffer | None = None) -> np.ndarray:
        """Elements from each start to each stop, one stretch after the other.

        Args:
            spans: Starts and stops.
            buffer: Memory to put them in; what it held is overwritten.

        Raises:
            OSError, RuntimeError, ValueError, TypeError, KeyError: By what is wrong with the file.
        """
        out, at = (buffer or Buffer()).of(sum(stop - start for start, stop in spans), self.dtype), 0
        for start, stop in (span for span in spans if span[1] > span[0]):
            self._read(out[at : at + stop - start], start, stop)
            at += stop - start
        return out

    def _read(self, out: np.ndarray, start: int, stop: int) -> None:
        if not self.direct:
            self._dataset.read_direct(out, np.s_[start:stop])
            return
        if stop > self.length:
            raise ValueError(f"{stop} elements of {self.length}")
        while start < stop:
            end, place = self._run(start, stop)
            _fill(self._file, out[: end - start], place)
            out, start = out[end - start :], end

    def _run(self, start: int, stop: int) -> tuple[int, int]:
        """Where the run of neighbouring chunks that `start` is in ends, `stop` at the latest, and its place."""
        first, last = start // self._chunk, (stop - 1) // self._chunk
        steps = np.diff(self._places[first : last + 1]) != self._chunk * self.dtype.itemsize
        chunks = int(np.argmax(steps)) + 1 if steps.any() else last - first + 1
        place = int(self._places[first]) + (start - first * self._chunk) * self.dtype.itemsize
        return min((first + chunks) * self._chunk, stop), place

    def _is_as_hdf5_has_it(self) -> bool:
        """Whether the first and last elements are those that HDF5 reads."""
        ends = [(0, 1), (self.length - 1, self.length)]
        try:
            found = self.stretches(ends)
        except OSError:
            return False
        return found.tobytes() == np.concatenate([self._dataset[a:b] for a, b in ends]).tobytes()


def _places(dataset: h5py.Dataset) -> tuple[int, np.ndarray]:
    """Elements in a chunk, and each chunk's place in the file; no place where the bytes are not there as they are."""
    nowhere = (1, np.empty(0, np.int64))
    plain = dataset.id.get_create_plist().get_nfilters() == 0 and dataset.dtype.isnative and dataset.dtype.kind in "iuf"
    if not (plain and dataset.size and dataset.file.driver == "sec2" and _AT_HAND):
        return nowhere
    if dataset.chunks is None:
        place = dataset.id.get_offset()  # None for a dataset held elsewhere
        return nowhere if place is None else (dataset.size, np.array([place]))
    (size,) = dataset.chunks
    places = np.full(-(-dataset.size // size), -1)

    def note(chunk: Any) -> None:
        places[chunk.chunk_offset[0] // size] = chunk.byte_offset

    dataset.id.chunk_iter(note)
    return (size, places) if (places >= 0).all() else nowhere


def _fill(file: int, out: np.ndarray, place: int) -> None:
    """Read bytes of a file into an array.

    Raises:
        OSError: If the file ends before.
    """
    left = out.data.cast("B")
    while len(left):
        if not (got := os.preadv(file, [left], place)):
            raise OSError("the file ends too early")
        left, place = left[got:], place + got
