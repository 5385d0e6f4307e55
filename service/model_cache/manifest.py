"""Which files make up a model: paths, sizes and SHA-256 at one commit of one repository.

Pure data, read from and written to JSON. Knows no hub and no folder.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Self

__all__ = ["MANIFEST", "Manifest", "ManifestError", "ModelFile", "shipped"]

MANIFEST = "manifest.json"
SHIPPED = "csm-1b.json"
PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
"""Of a file below the folder. No part begins with a dot: those names are this program's own."""

DIGEST = re.compile(r"[0-9a-f]{64}")
COMMIT = re.compile(r"[0-9a-f]{40}")
OWN = (".part",)


class ManifestError(ValueError):
    """What should be a manifest is none; the message says why."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file: its path below the folder, its size in bytes and its SHA-256."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """The files of a model, sorted by path, and where they come from.

    revision: the commit, 40 hexadecimal digits
    asked: the branch or tag that this commit was found at, where no commit was asked for
    """

    repository: str
    revision: str
    files: tuple[ModelFile, ...]
    asked: str | None = None

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def largest(self) -> ModelFile:
        """The file that only who may have the model is given: a part of the weights."""
        return max(self.files, key=lambda file: file.size)

    def answers(self, repository: str, revision: str) -> bool:
        """Say whether these are the files that a repository and a commit or branch ask for."""
        return self.repository == repository and revision in (self.revision, self.asked)

    def to_json(self) -> str:
        """Write it as `read` reads it."""
        table: dict[str, Any] = {"repository": self.repository, "revision": self.revision}
        if self.asked is not None:
            table["asked"] = self.asked
        table["files"] = [
            {"path": file.path, "size": file.size, "sha256": file.sha256} for file in self.files
        ]
        return json.dumps(table, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read a manifest.

        Raises:
            ManifestError: It is no JSON, a field is absent, or a path, size or digest cannot be.
        """
        try:
            table = json.loads(text)
            files = tuple(sorted(map(_file, table["files"]), key=lambda file: file.path))
            repository, revision = str(table["repository"]), str(table["revision"])
            asked = table.get("asked")
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ManifestError(_why(error)) from None
        if not COMMIT.fullmatch(revision):
            raise ManifestError(f"revision is not a commit of 40 hexadecimal digits: {revision!r}")
        if not files:
            raise ManifestError("it lists no files")
        if len({file.path for file in files}) < len(files):
            raise ManifestError("it lists a file twice")
        return cls(repository, revision, files, None if asked is None else str(asked))


def _file(entry: Mapping[str, Any]) -> ModelFile:
    path, size, sha256 = entry["path"], entry["size"], entry["sha256"]
    if not isinstance(path, str) or not PATH.fullmatch(path) or path.endswith(OWN):
        raise ManifestError(f"a file of a model is not named like this: {path!r}")
    if path == MANIFEST:
        raise ManifestError(f"{MANIFEST} is the manifest's own name")
    if not isinstance(size, int) or size < 0:
        raise ManifestError(f"{path} has no size in bytes: {size!r}")
    if not isinstance(sha256, str) or not DIGEST.fullmatch(sha256):
        raise ManifestError(f"{path} has no SHA-256 of 64 hexadecimal digits: {sha256!r}")
    return ModelFile(path, size, sha256)


def _why(error: Exception) -> str:
    if isinstance(error, (ManifestError, json.JSONDecodeError)):
        return str(error)
    if isinstance(error, KeyError):
        return f"it has no field {error}"
    return "it does not have the fields repository, revision and files"


def read(path: Path) -> Manifest:
    """Read a manifest's file.

    Raises:
        ManifestError: It is none.
        OSError: It cannot be read.
    """
    return Manifest.from_json(path.read_bytes())


def shipped() -> Manifest:
    """Give the manifest of the model that this project is made for."""
    text = resources.files("service.model_cache").joinpath(SHIPPED).read_text(encoding="utf-8")
    return Manifest.from_json(text)
