"""A result file that is there whole or not at all. Knows nothing of what is written into it."""

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class OutputError(OSError):
    """A result file cannot be written; the message says which, why, and what to do."""


class Replacement:
    """A file beside its target that takes the target's place when it is written."""

    def __init__(self, draft: Path, target: Path) -> None:
        self._draft = draft
        self._target = target

    def write(self, text: str) -> None:
        """Write all of `text` as UTF-8 and put it in the target's place, in one step."""
        try:
            with self._draft.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            self._draft.replace(self._target)
        except OSError as error:
            raise _unwritable(self._target, error.strerror or str(error)) from error


@contextmanager
def replacement(path: Path) -> Iterator[Replacement]:
    """Open a replacement for `path`, and so find out now whether it can be written.

    A link is followed: what it points to is replaced. Raises `OutputError`.
    """
    target = path.resolve()
    if target.exists() and not stat.S_ISREG(target.stat().st_mode):
        raise _unwritable(path, "it is no plain file")
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise _unwritable(path, error.strerror or str(error)) from error
    draft = Path(name)
    try:
        os.fchmod(handle, 0o666 & ~_umask())
        os.close(handle)
        yield Replacement(draft, target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _unwritable(path: Path, reason: str) -> OutputError:
    return OutputError(f"cannot write {path}: {reason}. Give a file in a folder you may write to.")
