"""A Docker daemon that answers."""

from collections.abc import Mapping
from typing import Any

from pyinfra import host
from pyinfra.api import StringCommand, operation

from provision import facts
from provision._daemon import DAEMON_FILE, merge_daemon
from provision._docker import missing_parts
from provision.operations.files import Commands, script, write_file

DAEMON_LOG = "/var/log/dockerd.log"
DAEMON_TIMEOUT_SECONDS = 60


@operation()
def ensure_docker_answers(*, systemd: bool) -> Commands:
    """Start the Docker daemon if it does not answer, and wait until every part of Docker does.

    + systemd: whether systemd runs the host; without it the daemon is started plainly
    """
    engine = host.get_fact(facts.DockerEngine)
    if not missing_parts(engine):
        host.noop("engine, Compose v2 and BuildKit answer")
        return
    if "engine" not in engine:
        yield start_daemon_with_systemd() if systemd else start_daemon_plainly()
    yield script(
        *(
            f"docker {part} version >/dev/null || {{ echo 'Docker is there, but not {part}: "
            f"docker {part} version says why.' >&2; exit 1; }}"
            for part in ("compose", "buildx")
        )
    )


def start_daemon_with_systemd() -> StringCommand:
    """Return a command that has systemd run the daemon, and waits until it answers."""
    return _start_daemon(
        "systemctl enable --now docker.service || true",
        "journalctl --no-pager --unit docker.service --lines 20",
    )


def start_daemon_plainly() -> StringCommand:
    """Return a command that runs the daemon without systemd, and waits until it answers."""
    # Debian's init script raises limits, which a container without SYS_RESOURCE may not do.
    # Killed daemons leave their numbers behind, which other processes may have by now.
    return _start_daemon(
        "start-stop-daemon --status --exec $(command -v dockerd) || rm -f /run/docker.pid\n"
        "start-stop-daemon --status --exec $(command -v containerd) || "
        "rm -f /run/docker/containerd/containerd.pid\n"
        "start-stop-daemon --start --oknodo --background "
        f"--output {DAEMON_LOG} --exec $(command -v dockerd)",
        f"tail -n 20 {DAEMON_LOG}",
    )


def _start_daemon(start: str, last_words: str) -> StringCommand:
    return script(
        start,
        f"for second in $(seq {DAEMON_TIMEOUT_SECONDS}); do",
        "  if docker info >/dev/null 2>&1; then exit 0; fi",
        "  sleep 1",
        "done",
        f"{last_words} >&2 || true",
        f'echo "The Docker daemon did not answer within {DAEMON_TIMEOUT_SECONDS} s; its last words '
        'are above. Mend what they say and deploy again." >&2',
        "exit 1",
    )


@operation()
def configure_daemon(wanted: Mapping[str, Any], *, systemd: bool) -> Commands:
    """Merge settings into Docker's configuration, and let the daemon read it again.

    + wanted: what must be there; whatever else is there stays
    + systemd: whether systemd runs the host
    """
    existing = host.get_fact(facts.DaemonConfiguration)
    merged = merge_daemon(existing, wanted)
    if merged is None:
        host.noop(f"{DAEMON_FILE}: as wanted")
        return
    yield write_file(DAEMON_FILE, merged)
    yield "systemctl reload docker" if systemd else "kill -HUP $(cat /run/docker.pid)"
