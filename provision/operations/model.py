"""The model's files on a host."""

import io
import math
import posixpath
import shlex
from collections.abc import Sequence
from pathlib import Path

from pydantic import SecretStr
from pyinfra import host, state
from pyinfra.api import FileUploadCommand, StringCommand, operation
from pyinfra.connectors.local import LocalConnector

from provision import facts
from provision._model import Hub, Model, ModelFile
from provision._release import CONTAINER, MODELS
from provision._transfer import MIB, PART_BYTES, Progress, parts
from provision.operations.files import Commands, ToldCommand, script, write_file

MANIFEST = "manifest.json"


@operation()
def upload_model(model: Model, origin: Path, folder: str) -> Commands:
    """Bring a model's files to the host: those that are missing there or differ, and no others.

    Each travels in parts under a temporary name and takes its place when its SHA-256 is right; a
    transfer that was cut goes on where it was. A stamp tells later runs what was verified, so that
    only changed files are read again. A container that has a file which was wrong is started again.

    + model: what is to be there
    + origin: folder of the deploying machine that holds it
    + folder: where it goes; its name is the model's content
    """
    missing = _missing(model, folder)
    if missing is None:
        return
    yield _make_folders(model, folder)
    halves = {file: _half(folder, file) for file in missing}
    sizes = host.get_fact(facts.FileSizes, paths=list(halves.values())) if halves else {}
    if missing:
        size = sum(file.size for file in missing) - sum(sizes.values())
        yield _refuse_a_full_disk(folder, size)
    for file, half in halves.items():
        yield from _upload(origin / file.path, file, half, there=sizes.get(half, 0))
        yield _put_in_place(file, half, f"{folder}/{file.path}")
    yield _stamp(model, folder)
    if missing:
        yield _restart_holders(folder)


@operation()
def fetch_model(
    model: Model, hub: Hub, folder: str, image: str, token: SecretStr | None, *, required: bool
) -> Commands:
    """Fetch a model from a hub onto the host, by the program in the service image.

    It fetches what is missing or differs, goes on where it was cut, and says how far it is. The
    token travels on standard input.

    + model: what is to be there
    + hub: where it is
    + folder: where it goes; its name is the model's content
    + image: the service image
    + token: what the hub is shown, if anything
    + required: whether the host fails when the model cannot be had
    """
    missing = _missing(model, folder)
    if missing is None:
        return
    manifest = f"{folder}/{MANIFEST}"
    yield _make_folders(model, folder)
    yield write_file(manifest, hub.manifest_of(model))
    words = [
        *("docker", "run", "--rm", "--interactive", "--network", "host", "--user", "0:0"),
        *("--read-only", "--tmpfs", "/tmp", "--env", "HF_HOME=/tmp", "--cap-drop", "ALL"),  # noqa: S108 (the container's own)
        *("--security-opt", "no-new-privileges", "--pull", "never", "--volume", f"{folder}:/model"),
        *(image, "python", "-m", "service.model_cache", "fill", "--folder", "/model"),
        *("--manifest", f"/model/{MANIFEST}", "--endpoint", hub.endpoint),
        *("--progress", "lines", "--token-stdin"),
    ]
    end = (
        "exit 1"
        if required
        else 'echo "Going on with the basic voice; the next deploy tries again." >&2'
    )
    yield ToldCommand(
        f"{shlex.join(words)} || {{ echo 'The model could not be fetched; the lines above say why.'"
        f" >&2; {end}; }}",
        _stdin=token.get_secret_value() if token else "",
    )
    if missing:
        yield _restart_holders(folder)


@operation()
def prune_models(kept: str) -> Commands:
    """Remove every model but one from the host.

    + kept: name of the one that stays
    """
    old = [name for name in host.get_fact(facts.Models, folder=MODELS) if name != kept]
    if not old:
        host.noop("no other model is there")
        return
    yield f"rm -rf {' '.join(f'{MODELS}/{name}' for name in old)}"


def _missing(model: Model, folder: str) -> Sequence[ModelFile] | None:
    """Return what is not in place, or None when all is there and noted as verified."""
    paths = [file.path for file in model.files]
    placed = host.get_fact(facts.PlacedFiles, folder=folder, paths=paths)
    verified = {path: found["sha256"] for path, found in placed.items()}
    missing = [file for file in model.files if verified.get(file.path) != file.sha256]
    if not missing and all(found["stamped"] for found in placed.values()):
        host.noop(f"model {model.digest}: in place")
        return None
    return missing


def _make_folders(model: Model, folder: str) -> StringCommand:
    folders = sorted({posixpath.dirname(f"{folder}/{file.path}") for file in model.files})
    return script(f"install -d -m 755 {shlex.join(folders)}")


def _refuse_a_full_disk(folder: str, size: int) -> StringCommand:
    """Look again, as what came before, the image above all, has taken its share by now."""
    return script(
        f"free=$(df -Pk {folder} | awk 'NR == 2 {{print $4}}')",
        f'if [ "$free" -lt {size // 1024} ]; then',
        f'  echo "The model needs {math.ceil(size / MIB)} MiB in {folder}, and '
        '$((free / 1024)) MiB are free. Free some, or give the machine more disk, and deploy "'
        '"again." >&2',
        "  exit 1",
        "fi",
    )


def _half(folder: str, file: ModelFile) -> str:
    """Return where a file is kept until it is whole; another content never goes on from there."""
    return f"{folder}/{file.path}.{file.sha256[:12]}.half"


def _upload(source: Path, file: ModelFile, half: str, there: int) -> Commands:
    place = shlex.quote(half)
    if host.connector_cls is LocalConnector:
        # pyinfra would hold the file in memory. A copy, not a link: its owner may write to his.
        yield f"cp --reflink=auto {shlex.quote(str(source))} {place}"
        return
    if there > file.size:
        yield f"rm -f {place}"
        there = 0
    part = f"{half}.part"
    progress = Progress(file.path, file.size, there, host.log) if state.is_executing else None
    if file.size == 0:
        yield f": > {place}"
    for piece in parts(source, file.size, there):
        # With sudo it travels in two steps, and /tmp may be too small, as it may be memory.
        yield FileUploadCommand(
            io.BufferedReader(piece),
            part,
            remote_temp_filename=f"/var/tmp/sesame-csm-{file.sha256[:16]}",  # noqa: S108 (its copy is verified)
        )
        yield f"cat {shlex.quote(part)} >> {place} && rm -f {shlex.quote(part)}"
        if progress and file.size > PART_BYTES:
            progress.reach(piece.offset + piece.length)


def _put_in_place(file: ModelFile, half: str, place: str) -> StringCommand:
    half, place = shlex.quote(half), shlex.quote(place)
    return script(
        f"found=$(sha256sum < {half})",
        f'if [ "${{found%% *}}" != {file.sha256} ]; then rm -f {half}; '
        f"echo {shlex.quote(file.path)} did not arrive whole. Deploy again. >&2; exit 1; fi",
        f"mv -f {half} {place}",
    )


def _stamp(model: Model, folder: str) -> StringCommand:
    """Make the verified files readable by the container, and note what they then look like."""
    return script(
        f"cd {folder}",
        "while read -r digest path; do",
        '  chmod 644 "$path"',
        '  chown 0:0 "$path"',
        f'  echo "$digest $({facts.STATE_OF_FILE} "$path") $path"',
        f"done > {facts.STAMP}.half << 'END'",
        f"{model.manifest}END",
        f"mv -f {facts.STAMP}.half {facts.STAMP}",
    )


def _restart_holders(folder: str) -> str:
    # What was mended under a running container is still the old file to it.
    return (
        f"docker ps --quiet --filter name=^/{CONTAINER}$ --filter volume={folder} "
        "| xargs -r docker restart --time 35 >/dev/null"
    )
