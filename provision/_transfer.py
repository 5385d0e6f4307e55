"""A large file in parts, so that a transfer that was cut goes on where it was; and how far it is.

Pure but for the file that is read. Knows nothing of pyinfra.
"""

import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from typing_extensions import Buffer

PART_BYTES = 64 * 2**20
MIB = 2**20
SECONDS_BETWEEN_WORDS = 5.0


class FilePart(io.RawIOBase):
    """The bytes of a file from an offset on, read when they are sent and never held whole."""

    def __init__(self, path: Path, offset: int, length: int) -> None:
        super().__init__()
        self.path, self.offset, self.length = path, offset, length
        self.name = f"{path}, {length} bytes from {offset} on"
        self._place = 0
        self._file: IO[bytes] | None = None

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that it can be read again from its start."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place within the part."""
        bases = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self.length}
        self._place = min(max(bases[whence] + offset, 0), self.length)
        return self._place

    def readinto(self, buffer: Buffer) -> int:
        """Fill a buffer with the next bytes; the file is open only until the last of them."""
        view = memoryview(buffer).cast("B")
        wanted = min(len(view), self.length - self._place)
        if wanted == 0:
            self.close_file()
            return 0
        if self._file is None:
            self._file = self.path.open("rb")
        self._file.seek(self.offset + self._place)
        content = self._file.read(wanted)
        view[: len(content)] = content
        self._place += len(content)
        return len(content)

    def close_file(self) -> None:
        """Close the file; a later read opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None


def parts(path: Path, size: int, start: int = 0) -> Iterator[FilePart]:
    """Yield what is still to be sent of a file of which ``start`` bytes are there."""
    for offset in range(start, size, PART_BYTES):
        yield FilePart(path, offset, min(PART_BYTES, size - offset))


class Progress:
    """Says how far a file is: bytes, rate, time left; not more often than every few seconds."""

    def __init__(
        self,
        name: str,
        size: int,
        start: int,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name, self._size, self._start, self._say, self._clock = name, size, start, say, clock
        self._began = self._told = clock()
        if start:
            say(f"{name}: goes on after {start // MIB:,} of {size // MIB:,} MiB")

    def reach(self, done: int) -> None:
        """Note how many bytes are there, and say so when it is time."""
        now = self._clock()
        if now - self._told < SECONDS_BETWEEN_WORDS:
            return
        self._told = now
        rate = (done - self._start) / (now - self._began)
        left = (self._size - done) / rate if rate else float("inf")
        self._say(
            f"{self._name}: {done // MIB:,} of {self._size // MIB:,} MiB, "
            f"{rate / MIB:.0f} MiB/s, {left:.0f} s left"
        )
