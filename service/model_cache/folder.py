"""The folder that a model is brought to: what lies there, what is verified, what is half there.

`manifest.json` says what the folder is to hold and `.verified` what was found right, in the form
that a deploy reads from outside: `SHA-256 MODE OWNER SIZE MTIME PATH`, a line a file, as
`stat -c '%a %u %s %.9Y'` prints it. A file that differs from its line is read again. It knows no
hub.
"""

import errno
import fcntl
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from service.model_cache.manifest import MANIFEST, Manifest, ManifestError, ModelFile, read
from service.model_cache.refusals import RefusedError

__all__ = ["HEADROOM", "Folder", "Part", "sha256_of"]

HEADROOM = 512 * 2**20
"""Bytes that stay free on the disk beside the model."""

LOCK = ".lock"
STAMPS = ".verified"
PART = ".part"
BLOCK = 2**20  # bytes, of a file that is read
FILE_MODE, FOLDER_MODE = 0o644, 0o755
MIB = 2**20

Tell = Callable[[int], None]
"""Is told of bytes as they are read."""


class Folder:
    """A folder, and the files of one model below it.

    Whatever is refused here, `RefusedError` says which folder, and what to do.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def locked(self, wait: Callable[[], None]) -> Iterator[None]:
        """Hold the folder alone. A holder that dies lets go of it.

        + wait: is told when another one holds it, before its end is waited for
        """
        with self._refusing():
            self.path.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            lock = (self.path / LOCK).open("ab")
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                wait()
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def manifest(self) -> Manifest | None:
        """Give what the folder is to hold; None where it says nothing that can be read."""
        try:
            return read(self.path / MANIFEST)
        except (OSError, ManifestError):
            return None

    def adopt(self, manifest: Manifest) -> None:
        """Say what the folder is to hold, and remove what it held of another model.

        An index that stayed would be read before the new one.
        """
        before = self.manifest()
        if before == manifest:
            return
        kept = {file.path for file in manifest.files}
        with self._refusing():
            for file in before.files if before else ():
                if file.path not in kept:
                    (self.path / file.path).unlink(missing_ok=True)
                    self._part(file).unlink(missing_ok=True)
            self._replace(MANIFEST, manifest.to_json())

    def is_stamped(self, file: ModelFile) -> bool:
        """Say whether a file is there, was verified, and has not changed since."""
        return self._line(file) in self._stamps()

    def is_right(self, file: ModelFile, tell: Tell) -> bool:
        """Read a file that is there, and stamp it if it is right."""
        path = self.path / file.path
        with self._refusing(file):
            if not path.is_file() or path.stat().st_size != file.size:
                return False
            if sha256_of(path, tell) != file.sha256:
                return False
            self._settle(path)
        self._stamp(file)
        return True

    def check_room(self, missing: Iterable[ModelFile]) -> None:
        """Raise RefusedError unless what is missing fits, with `HEADROOM` to spare."""
        needed = sum(file.size - min(self.arrived(file), file.size) for file in missing)
        if not needed:
            return
        with self._refusing():
            free = shutil.disk_usage(self.path).free
        if needed + HEADROOM > free:
            raise RefusedError(
                "disk_full",
                folder=self.path,
                free=free // MIB,
                needed=-(-needed // MIB),
                headroom=HEADROOM // MIB,
                short=-(-(needed + HEADROOM - free) // MIB),
            )

    def arrived(self, file: ModelFile) -> int:
        """Give how many bytes of a file have arrived and wait for the rest."""
        try:
            return self._part(file).stat().st_size
        except OSError:
            return 0

    @contextmanager
    def part(self, file: ModelFile, tell: Tell) -> Iterator["Part"]:
        """Open what has arrived of a file, and read it; what arrives is added to it."""
        path = self._part(file)
        with self._refusing(file):
            path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            opened = path.open("r+b" if path.exists() else "w+b", buffering=0)
        with opened:
            part = Part(opened)
            try:
                part.resume(tell)
                yield part
            except OSError as error:
                raise self._refusal(error, file, at=part.size) from None

    def drop(self, file: ModelFile) -> None:
        """Remove what has arrived of a file: it is of no use."""
        with self._refusing(file):
            self._part(file).unlink(missing_ok=True)

    def place(self, file: ModelFile) -> None:
        """Let a part that was found right take its file's place, and stamp it."""
        part = self._part(file)
        with self._refusing(file):
            with part.open("rb") as arrived:
                os.fsync(arrived.fileno())
            self._settle(part)
            part.replace(self.path / file.path)
        self._stamp(file)

    def _part(self, file: ModelFile) -> Path:
        return self.path / f"{file.path}{PART}"

    def _settle(self, path: Path) -> None:
        """Make a file and the folder it is in readable by the container's user."""
        path.chmod(FILE_MODE)
        if path.parent != self.path:
            path.parent.chmod(FOLDER_MODE)
        if os.geteuid() == 0:
            os.chown(path, 0, 0)

    def _line(self, file: ModelFile) -> str | None:
        """Give the stamp of a file as it is now, if it were right."""
        try:
            found = (self.path / file.path).stat()
        except OSError:
            return None
        seconds, nanoseconds = divmod(found.st_mtime_ns, 10**9)
        mode = stat.S_IMODE(found.st_mode)
        return (
            f"{file.sha256} {mode:o} {found.st_uid} {found.st_size}"
            f" {seconds}.{nanoseconds:09d} {file.path}"
        )

    def _stamps(self) -> list[str]:
        try:
            return (self.path / STAMPS).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            return []

    def _stamp(self, file: ModelFile) -> None:
        line = self._line(file)
        others = [line for line in self._stamps() if not line.endswith(f" {file.path}")]
        with self._refusing():
            self._replace(STAMPS, "".join(f"{line}\n" for line in sorted([*others, str(line)])))

    def _replace(self, name: str, text: str) -> None:
        half = self.path / f"{name}{PART}"
        with half.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        half.chmod(FILE_MODE)
        half.replace(self.path / name)

    @contextmanager
    def _refusing(self, file: ModelFile | None = None) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._refusal(error, file) from None

    def _refusal(self, error: OSError, file: ModelFile | None, at: int = 0) -> RefusedError:
        size = file.size if file else 0
        return RefusedError(
            ERRNOS.get(error.errno or 0, "disk"),
            folder=self.path,
            path=file.path if file else self.path,
            at=at,
            size=size,
            needed=-(-(size - at + HEADROOM) // MIB),
            user=os.geteuid(),
            found=error.strerror,
        )


ERRNOS = {
    errno.ENOSPC: "no_space",
    errno.EDQUOT: "no_space",
    errno.EFBIG: "too_large",
    errno.EROFS: "read_only",
    errno.EACCES: "no_right",
    errno.EPERM: "no_right",
    errno.ENOTDIR: "not_a_folder",
    errno.EEXIST: "not_a_folder",
}
"""Which refusal an error of the file system is."""


class Part:
    """What has arrived of a file, open to be added to; its digest goes along.

    size: bytes that are there; furthest: the most that there ever were, in this run
    """

    def __init__(self, opened: BinaryIO) -> None:
        self._opened = opened
        self._digest = hashlib.sha256()
        self.size = 0
        self.furthest = 0

    def resume(self, tell: Tell) -> None:
        """Read what is there."""
        while block := self._opened.read(BLOCK):
            self._count(block)
            tell(len(block))

    def restart(self) -> None:
        """Forget what has arrived."""
        self._opened.seek(0)
        self._opened.truncate()
        self._digest = hashlib.sha256()
        self.size = 0

    def add(self, piece: bytes) -> None:
        """Write what has arrived."""
        rest = memoryview(piece)
        while rest:
            # A nearly full disk takes a part of it.
            written = self._opened.write(rest)
            self._count(rest[:written])
            rest = rest[written:]

    @property
    def sha256(self) -> str:
        """Of all that has arrived."""
        return self._digest.hexdigest()

    def _count(self, block: bytes | memoryview) -> None:
        self._digest.update(block)
        self.size += len(block)
        self.furthest = max(self.furthest, self.size)


def sha256_of(path: Path, tell: Tell) -> str:
    """Read a file, and give its SHA-256. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while block := file.read(BLOCK):
            digest.update(block)
            tell(len(block))
    return digest.hexdigest()
