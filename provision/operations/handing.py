"""What one host hands to another: over the deploying machine, by the connections that are there.

No port is opened, and the two hosts need not see each other.
"""

import shlex
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from gevent import get_hub
from gevent.lock import RLock
from paramiko import SSHException
from pyinfra import host, logger, state
from pyinfra.api import FunctionCommand, Host, State, StringCommand, operation
from pyinfra.api.arguments import CONNECTOR_ARGUMENT_KEYS, pop_global_arguments

from provision import facts
from provision._handing import HANDING, Archive, Shelf, is_whole, read_packed
from provision._model import Model, ModelFile
from provision._transfer import MIB, PART_BYTES, Progress
from provision.operations.files import Commands, script
from provision.operations.model import make_folders, missing_files
from provision.operations.transfer import half_of, put_in_place, refuse_a_full_disk, upload

_locks: WeakKeyDictionary[State, dict[str, RLock]] = WeakKeyDictionary()

LAYERS = "{{json .RootFS.Layers}}"

Result = TypeVar("Result")


class _HandingError(Exception):
    """Why a host cannot hand something over: what happened, and the next step."""


@operation()
def take_image(image: str, seed: str | None) -> Commands:
    """Take the service image from the host that has built it, unless it is there.

    It is packed there once for all that take it, kept on the deploying machine, sent in parts, and
    used when its SHA-256 and its layers are the seed's.

    + image: name and tag of the image
    + seed: the host that has it; None on that host itself
    """
    if seed is None:
        host.noop("the others take what is built here")
        return
    if host.get_fact(facts.Image, tag=image):
        host.noop(f"{image}: there")
        return
    taken: list[tuple[Archive, Path]] = []

    def fetch_image(state: State, host: Host, seed: str, image: str) -> bool:
        found = _told(host, lambda: _fetch_image(state, host, seed, image))
        taken.extend([found] if found else [])
        return found is not None

    yield FunctionCommand(fetch_image, (seed, image), {})
    # What comes is known only when it has been fetched.
    for archive, source in taken:
        place = f"{HANDING}/image.tar.gz"
        half = half_of(place, archive.file)
        yield script(f"install -d -m 700 {HANDING}")
        there = host.get_fact(facts.FileSizes, paths=[half]).get(half, 0)
        yield refuse_a_full_disk(HANDING, archive.size - there, "The image's archive")
        yield from upload(source, archive.file, half, there)
        yield put_in_place(archive.file, half, place)
        yield _load(archive, place)


@operation()
def take_model(model: Model, seed: str | None, folder: str) -> Commands:
    """Bring to the deploying machine what the host lacks of a model that another host has.

    Files that are there whole stay, and one that was cut goes on where it was.

    + model: what is to be there
    + seed: the host that has it; None on that host itself
    + folder: where it lies on both
    """
    if seed is None:
        host.noop("the others take what is here")
        return
    missing = missing_files(model, folder)
    if not missing:
        if missing is not None:
            host.noop(f"model {model.digest}: in place, and yet to be noted as verified")
        return

    def fetch_model(state: State, host: Host, seed: str, folder: str) -> bool:
        fetched = _told(host, lambda: _fetch_model(state, host, seed, folder, model, missing))
        return fetched is not None

    yield make_folders(model, folder)
    yield FunctionCommand(fetch_model, (seed, folder), {})


def _told(host: Host, work: Callable[[], Result]) -> Result | None:
    """Do the work, or say why it could not be done and return None."""
    try:
        return work()
    except _HandingError as error:
        host.log_styled(str(error), fg="red", log_func=logger.error)
        return None


def _fetch_image(state: State, host: Host, seed: str, image: str) -> tuple[Archive, Path]:
    giver = _giver(state, seed)
    with _lock(state, image):
        identity = giver.get_fact(facts.Image, tag=image)
        if identity is None:
            raise _HandingError(
                f"{seed} has not built {image}, which it is to hand over. Deploy to it first; "
                "--serial and --no-wait let hosts run ahead of it."
            )
        shelf = Shelf()
        place = shelf.image(image, identity)
        if archive := _apart(shelf.find, image, identity):
            return archive, place
        host.log(f"{seed} packs {image}")
        packed = f"{HANDING}/{place.name}"
        archive = read_packed(_run(giver, _pack(image, packed))[-1], image, seed)
        _fetch(giver, packed, archive.file, place, host.log)
        shelf.keep(place, archive)
        _run(giver, script(f"rm -rf {HANDING}"))
        return archive, place


def _fetch_model(
    state: State,
    host: Host,
    seed: str,
    folder: str,
    model: Model,
    files: Sequence[ModelFile],
) -> Path:
    giver = _giver(state, seed)
    shelf = Shelf().model(model.digest)
    with _lock(state, model.digest):
        missing = [file for file in files if not _apart(is_whole, shelf / file.path, file)]
        placed = giver.get_fact(
            facts.PlacedFiles, folder=folder, paths=[file.path for file in missing]
        )
        for file in missing:
            if placed.get(file.path, {}).get("sha256") != file.sha256:
                raise _HandingError(
                    f"{seed} does not hold {file.path} of model {model.digest} whole, and is to "
                    "hand it over. Deploy to it first: it mends the file."
                )
            _fetch(giver, f"{folder}/{file.path}", file, shelf / file.path, host.log)
        if missing:
            _run(giver, script(f"rm -rf {HANDING}"))
    return shelf


def _apart(read: Callable[..., Result], *args: object) -> Result:
    """Read a large file in a thread, so that the connections to other hosts go on meanwhile."""
    result: Result = get_hub().threadpool.apply(read, args)
    return result


def _giver(state: State, seed: str) -> Host:
    giver = state.inventory.hosts[seed]
    if giver in state.failed_hosts:
        raise _HandingError(
            f"{seed}, which is to hand over what it has built, failed in this run. Nothing was "
            "switched over here; mend what is said about it and deploy again."
        )
    return giver


def _lock(state: State, name: str) -> RLock:
    """Return what lets one host of a run fetch a thing while the others that need it wait."""
    return _locks.setdefault(state, {}).setdefault(name, RLock())


def _pack(image: str, place: str) -> StringCommand:
    """Pack an image once, whoever was interrupted meanwhile, and print what came of it."""
    layers = f"docker image inspect --format '{LAYERS}' {shlex.quote(image)} | sha256sum"
    return script(
        f"install -d -m 700 {HANDING}",
        f"exec 9> {HANDING}/.lock",
        "flock 9",
        f"if [ ! -f {place}.packed ]; then",
        f"  rm -f {HANDING}/*.half {HANDING}/failed",
        f"  {{ docker save {shlex.quote(image)} || touch {HANDING}/failed; }} "
        f"| gzip -1 > {place}.half || touch {HANDING}/failed",
        f"  if [ -f {HANDING}/failed ]; then rm -rf {HANDING}; "
        f"echo 'The image could not be packed in {HANDING}; the lines above say why.' >&2; "
        "exit 1; fi",
        f"  mv -f {place}.half {place}",
        f"  layers=$({layers})",
        f"  found=$(sha256sum < {place})",
        f'  echo "$(stat -c %s {place}) ${{found%% *}} ${{layers%% *}}" > {place}.packed.half',
        f"  mv -f {place}.packed.half {place}.packed",
        "fi",
        f"cat {place}.packed",
    )


def _load(archive: Archive, place: str) -> StringCommand:
    image = shlex.quote(archive.image)
    return script(
        f"trap 'rm -rf {HANDING}' EXIT",
        f"docker load --quiet --input {place} >&2",
        f"layers=$(docker image inspect --format '{LAYERS}' {image} | sha256sum)",
        f'if [ "${{layers%% *}}" != {archive.layers} ]; then',
        f"  docker image rm {image} >/dev/null 2>&1 || true",
        f"  echo 'The image that was loaded is not the one that {archive.seed} has. "
        "Deploy again.' >&2",
        "  exit 1",
        "fi",
    )


def _fetch(
    giver: Host, path: str, file: ModelFile, place: Path, say: Callable[[str], None]
) -> None:
    """Fetch one file from a host to the deploying machine, in parts that go on where they were."""
    half = Path(half_of(str(place), file))
    part = half.with_suffix(".part")
    half.parent.mkdir(parents=True, exist_ok=True)
    there = half.stat().st_size if half.exists() else 0
    if there > file.size:
        half.unlink()
        there = 0
    free = shutil.disk_usage(half.parent).free
    if free < file.size - there:
        raise _HandingError(
            f"{file.path} needs {(file.size - there) // MIB} MiB in {half.parent} of this machine, "
            f"and {free // MIB} MiB are free. Free some and deploy again."
        )
    progress = Progress(file.path, file.size, there, say)
    away = f"{HANDING}/{file.sha256[:12]}.part"
    half.touch()
    for offset in range(there, file.size, PART_BYTES):
        _run(
            giver,
            script(
                f"install -d -m 700 {HANDING}",
                f"dd if={shlex.quote(path)} of={away} bs=1M iflag=skip_bytes,count_bytes "
                f"skip={offset} count={PART_BYTES} status=none",
            ),
        )
        _get(giver, away, part, file)
        with half.open("ab") as whole, part.open("rb") as opened:
            shutil.copyfileobj(opened, whole)
        part.unlink()
        progress.reach(min(offset + PART_BYTES, file.size))
    if not _apart(is_whole, half, file):
        half.unlink()
        raise _HandingError(f"{file.path} did not arrive whole from {giver.name}. Deploy again.")
    half.rename(place)


def _get(giver: Host, path: str, place: Path, file: ModelFile) -> None:
    why = ""
    try:
        there = giver.get_file(
            path,
            str(place),
            remote_temp_filename=f"/var/tmp/sesame-csm-{file.sha256[:16]}",  # noqa: S108 (its copy is verified)
            **_connector_arguments(giver),
        )
    except (OSError, EOFError, SSHException) as error:
        there, why = False, f": {error}"
    if not there:
        raise _HandingError(
            f"{file.path} was cut on its way from {giver.name}{why}. Deploy again; it goes on from "
            "there."
        )


def _run(giver: Host, command: StringCommand) -> list[str]:
    """Run a command on a host other than the one whose operation it is; return what it prints."""
    done, output = giver.run_shell_command(command, **_connector_arguments(giver))
    if not done:
        said = "\n".join(output.stderr_lines[-5:])
        raise _HandingError(f"{giver.name} cannot hand it over:\n{said}")
    return output.stdout_lines or [""]


def _connector_arguments(giver: Host) -> dict[str, Any]:
    """Return how commands are run there: as whom, above all."""
    found, _ = pop_global_arguments(state, giver, {})
    return {key: value for key, value in found.items() if key in CONNECTOR_ARGUMENT_KEYS}
