"""Holding what there is against what there should be, without changing either.

A folder against its manifest, and a hub against the model that is wanted of it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from service.model_cache.folder import Folder, sha256_of
from service.model_cache.hub import Hub
from service.model_cache.manifest import Manifest
from service.model_cache.progress import Teller
from service.model_cache.refusals import RefusedError

__all__ = ["Finding", "confirm", "find_faults", "probe"]


def find_faults(folder: Folder, manifest: Manifest, teller: Teller) -> list[str]:
    """Read every file, stamped or not; give a line for each that is missing, short or wrong.

    Raises OSError: One cannot be read, so nobody can tell.
    """
    faults = []
    for file in manifest.files:
        path = folder.path / file.path
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            faults.append(f"{file.path} is missing")
            continue
        if size != file.size:
            word = "short" if size < file.size else "long"
            faults.append(f"{file.path} is too {word}: {size} bytes, not {file.size}")
            continue
        teller.begin(file.path, 0, file.size)
        found = sha256_of(path, teller.advance)
        if found != file.sha256:
            faults.append(f"{file.path} is damaged: its SHA-256 is {found}, not {file.sha256}")
        teller.finish("right" if found == file.sha256 else "wrong")
    return faults


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether a hub would give the model.

    ready: it would; invalid: never, as it is asked; unreachable: nobody can tell now
    """

    finding: Literal["ready", "invalid", "unreachable"]
    detail: str
    next: str = ""


def probe(choose: Callable[[Hub], Manifest], open_hub: Callable[[], Hub]) -> Finding:
    """Ask whether the hub would give the model, without fetching it.

    The last question is for the weights: some hubs show a gated repository's small files to all.
    """
    try:
        hub = open_hub()
        manifest = choose(hub)
        confirm(hub, manifest)
    except RefusedError as refused:
        finding: Literal["invalid", "unreachable"] = "unreachable" if refused.again else "invalid"
        return Finding(finding, refused.what, refused.next_step)
    return Finding("ready", f"{hub.host} gives {manifest.repository} at {manifest.revision}", "")


def confirm(hub: Hub, manifest: Manifest) -> None:
    """Ask whether the hub has the model's largest file, as the manifest says, and gives it.

    Raises RefusedError.
    """
    file = manifest.largest
    kept = hub.look(manifest.repository, manifest.revision, file.path)
    facts: dict[str, object] = {"host": hub.host, "path": file.path, "size": file.size}
    if kept.size is not None and kept.size != file.size:
        kind = "longer" if kept.size > file.size else "shorter"
        raise RefusedError(kind, found=f"{kept.size} bytes", **facts)
    if kept.sha256 not in (None, file.sha256):
        raise RefusedError("changed", found=kept.sha256, **facts)
