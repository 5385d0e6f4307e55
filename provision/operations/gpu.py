"""A GPU that Docker can give to a container, and that the container keeps."""

from pyinfra import host, state
from pyinfra.api import operation

from provision import facts
from provision._release import COMPOSE_FILE, CONTAINER, HOME
from provision.operations.docker import (
    STOP_PLAINLY,
    start_daemon_plainly,
    start_daemon_with_systemd,
)
from provision.operations.files import Commands, script


@operation()
def adopt_nvidia_hook(*, systemd: bool) -> Commands:
    """Start the Docker daemon again if NVIDIA's hook came after it.

    It looks for the hook when it starts, and gives no GPU away without. Containers run on where
    ``live-restore`` is set, and the survey has seen that none of others' is stopped where not.

    + systemd: whether systemd runs the host
    """
    if host.get_fact(facts.NvidiaHook)["known"]:
        host.noop("the Docker daemon knows NVIDIA's hook")
        return
    if systemd:
        yield "systemctl restart docker.service"
        yield start_daemon_with_systemd()
    else:
        yield script(STOP_PLAINLY)
        yield start_daemon_plainly()


@operation()
def restore_gpu(timeout_seconds: int) -> Commands:
    """Make the running container anew if it has lost its GPU.

    A reload of systemd's units is known to take the GPU away from containers that run; only a new
    container gets it back.

    + timeout_seconds: how long it may take until it is healthy
    """
    fault = host.get_fact(facts.GpuInside, container=CONTAINER)
    if fault is None:
        host.noop(f"{CONTAINER}: has its GPU")
        return
    if state.is_executing:
        host.log(f"{CONTAINER} has lost its GPU ({fault}): it is made anew")
    yield script(
        f"docker compose --project-directory {HOME} --file {HOME}/{COMPOSE_FILE} up --detach "
        f"--force-recreate --wait --wait-timeout {timeout_seconds} > {HOME}/.start 2>&1 || "
        f"{{ cat {HOME}/.start >&2; docker logs --tail 30 {CONTAINER} >&2 2>&1 || true; "
        'echo "The container lost its GPU, and a new one does not become healthy." >&2; exit 1; }',
        f"rm -f {HOME}/.start",
    )
