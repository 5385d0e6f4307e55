"""What the service image is built from, and the tag that says so.

Pure functions over a folder. Knows nothing of pyinfra or of what the files mean.
"""

import hashlib
import io
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

IMAGE = "sesame-csm"
CONTEXT_ROOMS = ("service", "checks")
ENGINE_ROOM = Path("service/csm")
"""The model's own library; the light image has none of it."""

PROJECT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Variant:
    """Which image is built: a target of the Dockerfile, and where torch comes from.

    ``torch_index`` is the index that torch alone is taken from; empty: the one that pip is
    configured with.
    """

    target: Literal["light", "engine"]
    torch_index: str = ""


LIGHT = Variant("light")


def context_files(variant: Variant = LIGHT, project: Path = PROJECT) -> list[Path]:
    """Return the files that the image is built from, relative to the project, sorted."""
    left_out = [ENGINE_ROOM] if variant.target == "light" else []
    return sorted(
        path.relative_to(project)
        for room in CONTEXT_ROOMS
        for path in (project / room).rglob("*")
        if path.is_file()
        and "__pycache__" not in path.parts
        and not any(path.is_relative_to(project / room) for room in left_out)
    )


def image_tag(
    base: str, certificates: Iterable[str], variant: Variant = LIGHT, project: Path = PROJECT
) -> str:
    """Return name and tag of the image: same base, authorities, variant and content, same tag.

    Args:
        base: the base image that the build starts from.
        certificates: SHA-256 of each extra certificate authority of the host.
        variant: which image is built.
        project: folder that holds the rooms.
    """
    digest = hashlib.sha256()
    for part in (base, *certificates, variant.target, variant.torch_index):
        digest.update(part.encode() + b"\0")
    for path in context_files(variant, project):
        content = (project / path).read_bytes()
        digest.update(f"{path.as_posix()}\0{len(content)}\0".encode() + content)
    return f"{IMAGE}:{digest.hexdigest()[:12]}"


def pack_context(variant: Variant = LIGHT, project: Path = PROJECT) -> bytes:
    """Return the build context as a gzipped tar without owners or times."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for path in context_files(variant, project):
            content = (project / path).read_bytes()
            entry = tarfile.TarInfo(path.as_posix())
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()
