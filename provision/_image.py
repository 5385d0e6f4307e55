"""What the service image is built from, and the tag that says so.

Pure functions over a folder. Knows nothing of pyinfra or of what the files mean.
"""

import hashlib
import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

IMAGE = "sesame-csm"
CONTEXT_ROOMS = ("service", "checks")
LEFT_OUT = Path("service/csm")
"""The model's own library: no image runs it yet."""
PROJECT = Path(__file__).resolve().parent.parent


def context_files(project: Path = PROJECT) -> list[Path]:
    """Return the files that the image is built from, relative to the project, sorted."""
    return sorted(
        path.relative_to(project)
        for room in CONTEXT_ROOMS
        for path in (project / room).rglob("*")
        if path.is_file()
        and "__pycache__" not in path.parts
        and not path.is_relative_to(project / LEFT_OUT)
    )


def image_tag(base: str, certificates: Iterable[str], project: Path = PROJECT) -> str:
    """Return name and tag of the image: same base, authorities and content, same tag.

    Args:
        base: the base image that the build starts from.
        certificates: SHA-256 of each extra certificate authority of the host.
        project: folder that holds the rooms.
    """
    digest = hashlib.sha256()
    for part in (base, *certificates):
        digest.update(part.encode() + b"\0")
    for path in context_files(project):
        content = (project / path).read_bytes()
        digest.update(f"{path.as_posix()}\0{len(content)}\0".encode() + content)
    return f"{IMAGE}:{digest.hexdigest()[:12]}"


def pack_context(project: Path = PROJECT) -> bytes:
    """Return the build context as a gzipped tar without owners or times."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for path in context_files(project):
            content = (project / path).read_bytes()
            entry = tarfile.TarInfo(path.as_posix())
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()
