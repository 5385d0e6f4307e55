"""An espeak-ng that can be held: it starts, tells its process id, and waits to be let go."""

import os
import select
import shutil
from pathlib import Path

TIMEOUT = 10  # seconds; for events that take milliseconds

SCRIPT = """#!/bin/sh
[ -e {folder}/hold ] || exec {real} "$@"
echo $$ > {folder}/started
read -r _ < {folder}/release
exec {real} "$@"
"""


class HeldEspeak:
    """A command that is espeak-ng, held before it speaks once `hold` was called."""

    def __init__(self, folder: Path) -> None:
        real = shutil.which("espeak-ng")
        self.command = folder / "espeak-ng"
        self.command.write_text(SCRIPT.format(folder=folder, real=real))
        self.command.chmod(0o755)
        self._hold = folder / "hold"
        self._started = pipe(folder / "started")
        self._release = pipe(folder / "release")

    def hold(self) -> None:
        self._hold.touch()

    def started(self) -> int:
        """Wait until a held process has started, and give its process id."""
        ready, _, _ = select.select([self._started], [], [], TIMEOUT)
        assert ready, "espeak-ng was never started"
        return int(os.read(self._started, 100))

    def let_one_go(self) -> None:
        """Let the held process speak, and hold the next."""
        os.write(self._release, b"go\n")

    def let_go(self) -> None:
        """Let the held process speak, and hold no other."""
        self._hold.unlink()
        self.let_one_go()

    def close(self) -> None:
        os.close(self._started)
        os.close(self._release)


def pipe(path: Path) -> int:
    """Make a named pipe, open both ways: neither side waits for the other to open it."""
    os.mkfifo(path)
    return os.open(path, os.O_RDWR)


def is_running(pid: int) -> bool:
    """Tell whether a process is there, a zombie that nobody reaped included."""
    return Path(f"/proc/{pid}").exists()


def about(pid: int, what: str) -> bytes:
    """Read what the kernel tells everyone about a process: cmdline, environ."""
    return Path(f"/proc/{pid}/{what}").read_bytes()


def wait_for_exit(pid: int) -> None:
    """Wait until a process has exited; one that is gone already has."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        exited, _, _ = select.select([process], [], [], TIMEOUT)
        assert exited, f"process {pid} still runs"
    finally:
        os.close(process)
