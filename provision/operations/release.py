"""A release: its files in place, its container running, or the one before it again."""

from pyinfra import host
from pyinfra.api import operation

from provision import facts
from provision._release import COMPOSE_FILE, CONTAINER, HOME, RELEASE_LABEL, Release
from provision.operations.files import Commands, script, write_file

PREVIOUS = f"{HOME}/.previous"


@operation()
def install_release(release: Release) -> Commands:
    """Put a release's files into place, after its own image has accepted its settings.

    The files are written beside the running release and moved over it only when the service says
    that it can run with them, so a refused release leaves the running one untouched.

    + release: rendered files
    """
    paths = [*release.wanted, *release.unwanted]
    if host.get_fact(facts.FileStates, paths=paths) == release.wanted:
        host.noop(f"release {release.digest}: in place")
        return
    following = f"{HOME}/.next"
    yield script(
        f"rm -rf {following}",
        f"install -d -m 755 {HOME}",
        f"install -d -m 711 {following} {following}/secrets",
    )
    for file in release.files:
        yield write_file(f"{following}/{file.path}", file.content, file.mode, file.owner)
    yield script(
        f"docker compose --file {following}/{COMPOSE_FILE} run --rm --no-deps --no-TTY sesame-csm "
        f"python -m service --check-settings > {following}/answer 2>&1 || "
        f"{{ cat {following}/answer >&2; rm -rf {following}; "
        'echo "The service refuses these settings; nothing was switched over." >&2; exit 1; }'
    )
    yield script(
        f"rm -rf {PREVIOUS}",
        f"install -d -m 755 {PREVIOUS}",
        f"install -d -m 711 {PREVIOUS}/secrets {HOME}/secrets",
        *(f"if [ -f {path} ]; then cp -p {path} {_previous(path)}; fi" for path in paths),
        *(f"mv -f {following}/{file.path} {HOME}/{file.path}" for file in release.files),
        *(f"rm -f {path}" for path in release.unwanted),
        f"rm -rf {following}",
    )


def _previous(path: str) -> str:
    return path.replace(HOME, PREVIOUS, 1)


@operation()
def start_release(release: Release, timeout_seconds: int) -> Commands:
    """Start a release and wait until it is healthy.

    When it does not become healthy, its last words are printed, the release that ran before is
    started again, and the host fails.

    + release: the release whose files are in place
    + timeout_seconds: how long it may take
    """
    container = host.get_fact(facts.Container, container=CONTAINER) or {}
    settled = {
        "running": container.get("status") == "running",
        "healthy": container.get("health") == "healthy",
        "labelled": (container.get("labels") or {}).get(RELEASE_LABEL) == release.digest,
        "of the image": container.get("image") == host.get_fact(facts.Image, tag=release.image),
    }
    if all(settled.values()):
        host.noop(f"{CONTAINER}: {', '.join(settled)}")
        return
    up = (
        f"docker compose --project-directory {HOME} --file {HOME}/{COMPOSE_FILE} up --detach "
        f"--remove-orphans --wait --wait-timeout {timeout_seconds} > {HOME}/.start 2>&1"
    )
    yield script(
        f"if {up}; then rm -rf {HOME}/.start {PREVIOUS}; exit 0; fi",
        f"cat {HOME}/.start >&2",
        'echo "--- last words of the service ---" >&2',
        f"docker logs --tail 30 {CONTAINER} >&2 2>&1 || true",
        'echo "--- last health checks ---" >&2',
        "docker inspect --format "
        "'{{if .State.Health}}{{range .State.Health.Log}}{{.Output}}{{end}}{{end}}' "
        f"{CONTAINER} >&2 || true",
        f'echo "The service did not become healthy within {timeout_seconds} s. Mend what its last '
        'words say and deploy again, or give it longer: start_timeout_seconds." >&2',
        f"if [ -f {PREVIOUS}/{COMPOSE_FILE} ]; then",
        f"  rm -f {' '.join([*release.wanted, *release.unwanted])}",
        f"  cp -pR {PREVIOUS}/. {HOME}/",
        f"  if {up}; then",
        '    echo "Rolled back: the release that ran before speaks again." >&2',
        "  else",
        f"    cat {HOME}/.start >&2",
        '    echo "Rolled back, but the release that ran before does not start either." >&2',
        "  fi",
        "fi",
        f"rm -rf {HOME}/.start {PREVIOUS}",
        "exit 1",
    )


@operation()
def stop_service() -> Commands:
    """Stop the voice, as ``SESAME_ENABLED=false`` asks."""
    container = host.get_fact(facts.Container, container=CONTAINER)
    if container is None or container["status"] != "running":
        host.noop(f"{CONTAINER}: not running")
        return
    # Without --time Docker waits as long as the container was made to want: stop_grace_period.
    yield f"docker stop {CONTAINER} && rm -rf {PREVIOUS}"
