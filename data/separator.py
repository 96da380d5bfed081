"""A two-byte separator made one byte: pyarrow takes no other."""

import io
from typing import Any

UNIT_SEPARATOR = "\x1f"
_CHUNK = 1 << 20


class SingleByteSeparator(io.RawIOBase):
    """A stream with every ``::`` made a unit separator, chunk by chunk.

    Args:
        stream: A binary stream, closed with this one.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._held = b""
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        """It is for reading only."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer; 0 at the end of the stream."""
        if not self._ready:
            self._ready = memoryview(self._next())
        view = memoryview(buffer)
        n = min(len(view), len(self._ready))
        view[:n] = self._ready[:n]
        self._ready = self._ready[n:]
        return n

    def _next(self) -> bytes:
        while read := self._stream.read(_CHUNK):
            translated = (self._held + read).replace(b"::", UNIT_SEPARATOR.encode())
            # A colon left at the end may be the first half of a separator.
            cut = len(translated) - translated.endswith(b":")
            self._held = translated[cut:]
            if cut:
                return translated[:cut]
        rest, self._held = self._held, b""
        return rest

    def close(self) -> None:
        """Close the stream underneath too."""
        self._stream.close()
        super().close()
