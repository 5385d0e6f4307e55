"""The model's files on a host."""

import posixpath
import shlex

from pyinfra import host, state
from pyinfra.api import FileUploadCommand, StringCommand, operation
from pyinfra.connectors.local import LocalConnector

from provision import facts
from provision._model import Model, ModelFile
from provision._release import CONTAINER
from provision.operations.files import Commands, script

TOLD_OF_BYTES = 100 * 2**20
"""A file of this size may travel for a while, which is told."""


@operation()
def upload_model(model: Model, folder: str) -> Commands:
    """Bring a model's files to the host: those that are missing there or differ, and no others.

    Each travels under a temporary name and takes its place when its SHA-256 is right. A stamp
    beside the folder tells later runs what was verified, so that only changed files are read again.
    A container that has a file from there which was wrong is started again.

    + model: files of the deploying machine
    + folder: where they go; its name is the model's content
    """
    paths = [file.path for file in model.files]
    placed = host.get_fact(facts.PlacedFiles, folder=folder, paths=paths)
    verified = {path: found["sha256"] for path, found in placed.items()}
    missing = [file for file in model.files if verified.get(file.path) != file.sha256]
    if not missing and all(found["stamped"] for found in placed.values()):
        host.noop(f"model {model.digest}: in place")
        return
    folders = sorted({posixpath.dirname(f"{folder}/{path}") for path in paths})
    yield script(f"install -d -m 755 {' '.join(map(shlex.quote, folders))}")
    for file in missing:
        if state.is_executing and file.size > TOLD_OF_BYTES:
            host.log(f"{file.path}: {file.size / 2**20:.0f} MiB")
        yield from _upload(model, file, f"{folder}/{file.path}")
    yield _stamp(model, folder)
    if missing:
        # What was mended under a running container is still the old file to it.
        yield (
            f"docker ps --quiet --filter name=^/{CONTAINER}$ --filter volume={folder} "
            "| xargs -r docker restart --time 35 >/dev/null"
        )


def _upload(model: Model, file: ModelFile, place: str) -> Commands:
    source, half = str(model.folder / file.path), f"{place}.half"
    if host.connector_cls is LocalConnector:
        # pyinfra would hold the file in memory. A copy, not a link: its owner may write to his.
        yield f"cp --reflink=auto {shlex.quote(source)} {shlex.quote(half)}"
    else:
        # With sudo it travels in two steps, and /tmp may be too small, as it may be memory.
        yield FileUploadCommand(
            source,
            half,
            remote_temp_filename=f"/var/tmp/sesame-csm-{file.sha256[:16]}",  # noqa: S108 (its copy is verified)
        )
    place, half = shlex.quote(place), shlex.quote(half)
    yield script(
        f"found=$(sha256sum < {half})",
        f'if [ "${{found%% *}}" != {file.sha256} ]; then rm -f {half}; '
        f"echo {shlex.quote(file.path)} did not arrive whole. Deploy again. >&2; exit 1; fi",
        f"mv -f {half} {place}",
    )


def _stamp(model: Model, folder: str) -> StringCommand:
    """Make the verified files readable by the container, and note what they then look like."""
    stamp = f"{folder}.verified"
    return script(
        f"cd {folder}",
        "while read -r digest path; do",
        '  chmod 644 "$path"',
        '  chown 0:0 "$path"',
        f'  echo "$digest $({facts.STATE_OF_FILE} "$path") $path"',
        f"done > {stamp}.half << 'END'",
        f"{model.manifest}END",
        f"mv -f {stamp}.half {stamp}",
    )
