"""The operator's own personas on a host."""

import shlex

from pyinfra import host
from pyinfra.api import FileUploadCommand, operation

from provision import facts
from provision._release import VOICES
from provision._voices import Voices
from provision.operations.files import Commands, script
from provision.operations.transfer import restart_holders


@operation()
def place_voices(voices: Voices, folder: str) -> Commands:
    """Bring personas to the host, all of them or none.

    They travel beside their place and take it when every SHA-256 is right. A container that has
    them mounted and one was wrong is started again.

    + voices: files of the deploying machine
    + folder: where they go; its name is their content
    """
    wanted = {f"{folder}/{file.path}": f"644 0 {file.sha256}" for file in voices.files}
    if host.get_fact(facts.FileStates, paths=list(wanted)) == wanted:
        host.noop(f"personas {voices.digest}: in place")
        return
    half = f"{VOICES}/.half"
    homes = shlex.join(f"{half}/{name}" for name in voices.names)
    yield script(f"rm -rf {half}", f"install -d -m 755 {VOICES} {half} {homes}")
    for number, file in enumerate(voices.files):
        yield FileUploadCommand(
            str(voices.folder / file.path),
            f"{half}/{file.path}",
            remote_temp_filename=f"/var/tmp/sesame-csm-{voices.digest}-{number}",  # noqa: S108 (its copy is verified)
        )
    listed = "".join(f"{file.sha256}  {file.path}\n" for file in voices.files)
    yield script(
        f"cd {half}",
        f"sha256sum --check --strict --quiet >&2 << 'END' || "
        f"{{ rm -rf {half}; echo 'The personas did not arrive whole. Deploy again.' >&2; exit 1; }}"
        f"\n{listed}END",
        "find . -type f -exec chmod 644 {} +",
        "chown -R 0:0 .",
        f"rm -rf {folder}",
        f"mv {half} {folder}",
    )
    yield restart_holders(folder)


@operation()
def prune_voices(kept: str | None) -> Commands:
    """Remove the personas of earlier deploys.

    + kept: name of those that stay, if any
    """
    old = [name for name in host.get_fact(facts.Models, folder=VOICES) if name != kept]
    if not old:
        host.noop("no other personas are there")
        return
    yield f"rm -rf {' '.join(f'{VOICES}/{name}' for name in old)}"
