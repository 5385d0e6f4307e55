"""A Docker daemon that answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyinfra import host
from pyinfra.api import OperationError, StringCommand, operation

from provision import facts
from provision._daemon import BACKUP_FILE, DAEMON_FILE, Merged, merge_daemon
from provision._docker import Refusal, missing_parts
from provision._proxy import (
    DAEMON_PROXY_FILE,
    DAEMON_WANTED,
    DROP_IN,
    DROP_IN_TEXT,
    DROP_INS,
    PROXIES,
)
from provision.operations.files import Commands, script, write_file

DAEMON_LOG = "/var/log/dockerd.log"
DAEMON_TIMEOUT_SECONDS = 60


@dataclass(frozen=True, slots=True)
class _Start:
    """How the daemon is started again, when waiting is in vain, and where it says why."""

    restart: str
    gave_up: str
    last_words: str


SYSTEMD = _Start(
    "systemctl reset-failed docker.service 2>/dev/null || true\n"
    "systemctl restart docker.service || true",
    "systemctl is-failed --quiet docker.service",
    "journalctl --no-pager --unit docker.service --lines 20",
)

# Where process 1 collects nobody, an ended daemon stays as a zombie, for which start-stop-daemon
# waits in vain.
STOP_PLAINLY = (
    "number=$(cat /run/docker.pid 2>/dev/null || echo none)\n"
    "kill $number 2>/dev/null || true\n"
    "for second in $(seq 30); do\n"
    "  grep -s ^State: /proc/$number/status | grep -qv zombie || break\n"
    "  sleep 1\n"
    "done"
)

EXPORT_PROXIES = "\n".join(PROXIES)

PLAINLY = _Start(
    f"{STOP_PLAINLY}\n{EXPORT_PROXIES}\n"
    "start-stop-daemon --start --oknodo --background "
    f"--output {DAEMON_LOG} --exec $(command -v dockerd)",
    "! start-stop-daemon --status --exec $(command -v dockerd)",
    f"tail -n 20 {DAEMON_LOG}",
)

NEW_FILE = f"{DAEMON_FILE}.sesame-csm-new"

VALIDATE = (
    "if dockerd --help 2>/dev/null | grep -q -e --validate; then",
    # With the options that the daemon runs with: it refuses a setting that stands in both places.
    (
        "  { tail -z -n +2 /proc/$(cat /run/docker.pid)/cmdline || true; } 2>/dev/null "
        f"| xargs -0 sh -c 'dockerd \"$@\" --validate --config-file {NEW_FILE}' dockerd "
        f">/dev/null || {{ rm -f {NEW_FILE}; echo 'Docker refuses what was to be written into "
        f"{DAEMON_FILE}, and nothing was changed. Mend what it says above, or give "
        "docker_daemon=leave.' >&2; exit 1; }"
    ),
    "fi",
)


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
        f"{EXPORT_PROXIES}\n"
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
    """Merge settings into Docker's configuration, and let a running daemon take them over.

    What somebody else has set stays. The file as it was first is kept beside it. The daemon reads
    the new one at a signal; it is started again only for what it reads at no signal, and then
    only where no running container ends by that. If it does not answer afterwards, what was there
    before is put back.

    + wanted: what is to be there, such as ``{"live-restore": True}``
    + systemd: whether systemd runs the host
    """
    merged = merge_daemon(host.get_fact(facts.DaemonConfiguration), wanted)
    if isinstance(merged, Refusal):
        raise OperationError(str(merged))
    if not merged.changed:
        host.noop(f"{DAEMON_FILE}: as wanted")
        return
    yield write_file(NEW_FILE, merged.text, "600")
    yield script(*_put_in_force(merged, systemd=systemd))


def _put_in_force(merged: Merged, *, systemd: bool) -> list[str]:
    start = SYSTEMD if systemd else PLAINLY
    return [
        *VALIDATE,
        f"before=$(mktemp {DAEMON_FILE}.XXXXXX)",
        "trap 'rm -f $before' EXIT",
        (
            f"if [ -e {DAEMON_FILE} ]; then cp -p {DAEMON_FILE} $before; "
            f"[ -e {BACKUP_FILE} ] || cp -p {DAEMON_FILE} {BACKUP_FILE}; "
            f"chmod --reference=$before {NEW_FILE}; chown --reference=$before {NEW_FILE}; "
            f"else chmod 644 {NEW_FILE}; fi"
        ),
        f"mv -f {NEW_FILE} {DAEMON_FILE}",
        "docker info >/dev/null 2>&1 || exit 0",
        "kill -HUP $(cat /run/docker.pid)",
        *(
            _restart_gently(start, DAEMON_FILE, switched_on=merged.live_restore)
            if merged.needs_restart
            else ()
        ),
        *_until(
            f"docker info >/dev/null 2>&1 && exit 0; if {start.gave_up}; then break; fi",
            DAEMON_TIMEOUT_SECONDS,
        ),
        f"{start.last_words} >&2 || true",
        f"if [ -s $before ]; then cp -p $before {DAEMON_FILE}; else rm -f {DAEMON_FILE}; fi",
        start.restart,
        (
            f'echo "With {", ".join(merged.changed)} in {DAEMON_FILE} the Docker daemon does not '
            "answer; its last words are above, and what was there before is back. Give "
            'docker_daemon=leave, or mend what they say." >&2'
        ),
        "exit 1",
    ]


@operation()
def ensure_daemon_proxy() -> Commands:
    """Give a daemon under systemd the proxies that the host has, or none where it has none.

    They are found and written on the host: no proxy's address, which may hold a password, travels
    or stands in a command line, and only root can read it. A running daemon is started again, but
    only where no running container ends by that.
    """
    state = host.get_fact(facts.DaemonProxy)
    if state == "same":
        host.noop("the daemon has the host's proxies, or needs none")
        return
    change = (
        (f"rm -f {DAEMON_PROXY_FILE} {DROP_IN}",)
        if state == "unwanted"
        else (
            *DAEMON_WANTED,
            f"install -d -m 755 {DAEMON_PROXY_FILE.rsplit('/', 1)[0]} {DROP_INS}",
            f"(umask 077; printf '%s\\n' \"$wanted\" > {DAEMON_PROXY_FILE}.half)",
            f"chmod 600 {DAEMON_PROXY_FILE}.half",
            f"mv -f {DAEMON_PROXY_FILE}.half {DAEMON_PROXY_FILE}",
            f"printf '%s' '{DROP_IN_TEXT}' > {DROP_IN}",
        )
    )
    yield script(
        *change,
        "systemctl daemon-reload",
        "docker info >/dev/null 2>&1 || exit 0",
        *_restart_gently(SYSTEMD, DAEMON_PROXY_FILE, switched_on=False),
        *_until(
            f"docker info >/dev/null 2>&1 && exit 0; if {SYSTEMD.gave_up}; then break; fi",
            DAEMON_TIMEOUT_SECONDS,
        ),
        f"{SYSTEMD.last_words} >&2 || true",
        f'echo "With the proxies of {DAEMON_PROXY_FILE} the Docker daemon does not answer; its '
        f"last words are above. Mend what they say, or remove {DROP_IN}, then run systemctl "
        'daemon-reload and systemctl restart docker." >&2',
        "exit 1",
    )


def _restart_gently(start: _Start, file: str, *, switched_on: bool) -> list[str]:
    """Return the lines that start the daemon again, or end well where that would end containers.

    Args:
        start: how it is started again.
        file: what it is to read.
        switched_on: whether a signal has just switched ``live-restore`` on.
    """
    restored = "[ \"$(docker info --format '{{.LiveRestoreEnabled}}')\" = true ]"
    return [
        *(_until(f"{restored} && break", 10) if switched_on else ()),
        "running=$(docker ps --quiet | wc -l)",
        f'if [ "$running" != 0 ] && ! {restored}; then',
        (
            f'  echo "{file} is read when the daemon is started next: $running containers '
            'run, and without live-restore they would end."'
        ),
        "  exit 0",
        "fi",
        start.restart,
    ]


def _until(done: str, seconds: int) -> tuple[str, ...]:
    return (f"for second in $(seq {seconds}); do", f"  {done}", "  sleep 1", "done")
