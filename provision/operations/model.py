"""The model's files on a host."""

import posixpath
import shlex
from collections.abc import Sequence
from pathlib import Path

from pydantic import SecretStr
from pyinfra import host
from pyinfra.api import StringCommand, operation

from provision import facts
from provision._model import Hub, Model, ModelFile
from provision._proxy import CONTAINER_VARIABLES, PROXIES
from provision._release import MODELS
from provision.operations.files import Commands, ToldCommand, script, write_file
from provision.operations.transfer import (
    half_of,
    put_in_place,
    refuse_a_full_disk,
    restart_holders,
    upload,
)

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
    missing = missing_files(model, folder)
    if missing is None:
        return
    yield make_folders(model, folder)
    halves = {file: half_of(f"{folder}/{file.path}", file) for file in missing}
    sizes = host.get_fact(facts.FileSizes, paths=list(halves.values())) if halves else {}
    if missing:
        size = sum(file.size for file in missing) - sum(sizes.values())
        yield refuse_a_full_disk(folder, size)
    for file, half in halves.items():
        yield from upload(origin / file.path, file, half, there=sizes.get(half, 0))
        yield put_in_place(file, half, f"{folder}/{file.path}")
    yield _stamp(model, folder)
    if missing:
        yield restart_holders(folder)


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
    missing = missing_files(model, folder)
    if missing is None:
        return
    manifest = f"{folder}/{MANIFEST}"
    yield make_folders(model, folder)
    yield write_file(manifest, hub.manifest_of(model))
    words = [
        *("--rm", "--interactive", "--network", "host", "--user", "0:0"),
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
    fetch = (
        f"docker run {CONTAINER_VARIABLES} {shlex.join(words)} || "
        "{ echo 'The model could not be fetched; the lines above say why.' "
        f">&2; {end}; }}"
    )
    yield ToldCommand(
        "\n".join((*PROXIES, fetch)),
        _stdin=token.get_secret_value() if token else "",
    )
    if missing:
        yield restart_holders(folder)


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


def missing_files(model: Model, folder: str) -> Sequence[ModelFile] | None:
    """Return what is not in place, or None when all is there and noted as verified."""
    paths = [file.path for file in model.files]
    placed = host.get_fact(facts.PlacedFiles, folder=folder, paths=paths)
    verified = {path: found["sha256"] for path, found in placed.items()}
    missing = [file for file in model.files if verified.get(file.path) != file.sha256]
    if not missing and all(found["stamped"] for found in placed.values()):
        host.noop(f"model {model.digest}: in place")
        return None
    return missing


def make_folders(model: Model, folder: str) -> StringCommand:
    """Return the command that makes every folder that the files of a model are in."""
    folders = sorted({posixpath.dirname(f"{folder}/{file.path}") for file in model.files})
    return script(f"install -d -m 755 {shlex.join(folders)}")


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
