"""Files that travel from the deploying machine in parts and take their place when they are whole.

Knows names, sizes and digests, and not what the files are for.
"""

import io
import math
import shlex
from pathlib import Path

from pyinfra import host, state
from pyinfra.api import FileUploadCommand, StringCommand
from pyinfra.connectors.local import LocalConnector

from provision._model import ModelFile
from provision._release import CONTAINER
from provision._transfer import MIB, PART_BYTES, Progress, parts
from provision.operations.files import Commands, script


def refuse_a_full_disk(folder: str, size: int, what: str = "The model") -> StringCommand:
    """Look again, as what came before, the image above all, has taken its share by now."""
    return script(
        f"free=$(df -Pk {folder} | awk 'NR == 2 {{print $4}}')",
        f'if [ "$free" -lt {size // 1024} ]; then',
        f'  echo "{what} needs {math.ceil(size / MIB)} MiB in {folder}, and '
        '$((free / 1024)) MiB are free. Free some, or give the machine more disk, and deploy "'
        '"again." >&2',
        "  exit 1",
        "fi",
    )


def half_of(place: str, file: ModelFile) -> str:
    """Return where a file is kept until it is whole; another content never goes on from there."""
    return f"{place}.{file.sha256[:12]}.half"


def upload(source: Path, file: ModelFile, half: str, there: int) -> Commands:
    """Send what is missing of a file, in parts.

    Args:
        source: the file on the deploying machine.
        file: what is to arrive.
        half: where it is kept until it is whole.
        there: how many of its bytes are there already.
    """
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


def put_in_place(file: ModelFile, half: str, place: str) -> StringCommand:
    """Give a file that has arrived its name, if its SHA-256 is right; else remove it."""
    half, place = shlex.quote(half), shlex.quote(place)
    return script(
        f"found=$(sha256sum < {half})",
        f'if [ "${{found%% *}}" != {file.sha256} ]; then rm -f {half}; '
        f"echo {shlex.quote(file.path)} did not arrive whole. Deploy again. >&2; exit 1; fi",
        f"mv -f {half} {place}",
    )


def restart_holders(folder: str) -> str:
    """Start the container again if it has a folder of the host mounted that was mended."""
    # What was mended under a running container is still the old file to it. Without --time Docker
    # waits as long as the container was made to want: stop_grace_period.
    return (
        f"docker ps --quiet --filter name=^/{CONTAINER}$ --filter volume={folder} "
        "| xargs -r docker restart >/dev/null"
    )
