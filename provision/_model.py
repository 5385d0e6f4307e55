"""What a model is: its files with their digests, and what it takes to run it.

Pure data. Knows nothing of tensors or of pyinfra.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from provision._docker import Refusal
from provision._gpu import Accelerator
from provision._image import PROJECT

PUBLISHED = PROJECT / "service/model_cache/csm-1b.json"
"""Every file of CSM-1B that the engine reads, at the revision that is deployed."""

HUB = "https://huggingface.co"

MEMORY_BESIDE_WEIGHTS_MIB = 2048
"""Memory of the container beside the weights: the libraries, caches of the streams, the codec."""

NEEDED_MEMORY_MIB = 1024
NEEDED_SHARE_OF_WEIGHTS = 0.35
"""Memory without which the model cannot be served: 8-bit weights take 0.27 of the float32 files."""

MIB = 2**20


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of a model: its path below the folder, its size in bytes and its SHA-256."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Hub:
    """One revision of a repository on a model hub, or on a mirror that speaks its protocol."""

    endpoint: str
    repository: str
    revision: str

    def url_of(self, path: str) -> str:
        """Return the address of a file."""
        return f"{self.endpoint}/{self.repository}/resolve/{self.revision}/{path}"

    def manifest_of(self, model: "Model") -> str:
        """Return a model's manifest in the form that the program which fetches it reads."""
        table = {
            "repository": self.repository,
            "revision": self.revision,
            "files": [asdict(file) for file in model.files],
        }
        return json.dumps(table, indent=2) + "\n"


@dataclass(frozen=True, slots=True)
class Model:
    """The files of a whole checkpoint, sorted by path, and where they come from.

    ``origin`` is a folder of the deploying machine, or a hub.
    """

    origin: Path | Hub
    files: tuple[ModelFile, ...]

    @property
    def manifest(self) -> str:
        """One line a file, in the form that ``sha256sum --check`` reads."""
        return "".join(f"{file.sha256}  {file.path}\n" for file in self.files)

    @property
    def digest(self) -> str:
        """12 hexadecimal digits that name this content, wherever its folder is."""
        return hashlib.sha256(self.manifest.encode()).hexdigest()[:12]

    @property
    def largest(self) -> ModelFile:
        """The file that only those get who may have the model: a part of the weights."""
        return max(self.files, key=lambda file: file.size)

    @property
    def weights_mib(self) -> int:
        """Size of the shards, rounded up to whole MiB."""
        return _mib(file.size for file in self.files if file.path.endswith(".safetensors"))

    def missing_mib(self, placed: Mapping[str, str]) -> int:
        """Return how much has yet to travel, rounded up to whole MiB.

        Args:
            placed: SHA-256 of what is in place, by path.
        """
        return _mib(file.size for file in self.files if placed.get(file.path) != file.sha256)


@dataclass(frozen=True, slots=True)
class CsmEngine:
    """A model and what it runs on.

    ``gpus`` are the identifiers of the GPUs, or of their instances, that its container is given.
    """

    model: Model
    accelerator: Accelerator
    gpus: tuple[str, ...] = ()

    @property
    def memory_limit_mib(self) -> int:
        """What the container may take: float32 weights, which no precision exceeds, and the rest.

        Pages of the mapped files count too, but give way when memory is short.
        """
        return self.model.weights_mib + MEMORY_BESIDE_WEIGHTS_MIB

    @property
    def needed_memory_mib(self) -> int:
        """What the host must have at the least."""
        return NEEDED_MEMORY_MIB + math.ceil(NEEDED_SHARE_OF_WEIGHTS * self.model.weights_mib)


def read_manifest(path: Path = PUBLISHED, endpoint: str = HUB) -> Model | Refusal:
    """Read which files a model has that a hub holds, or say why the manifest cannot be used.

    Args:
        path: ``{"repository", "revision", "files": [{"path", "size", "sha256"}]}`` as JSON.
        endpoint: the hub, or a mirror of it.
    """
    try:
        table = json.loads(path.read_bytes())
        files = tuple(sorted(map(_file, table["files"]), key=lambda file: file.path))
        repository, revision = str(table["repository"]), str(table["revision"])
    except OSError as error:
        return _unusable(path, error.strerror or "it cannot be read")
    except (KeyError, TypeError, ValueError) as error:
        return _unusable(path, f"{type(error).__name__}: {error}")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository, re.ASCII):
        return _unusable(path, f"repository is no name such as sesame/csm-1b: {repository!r}")
    if not re.fullmatch(r"[0-9a-f]{40}", revision):
        return _unusable(path, f"revision is no commit of 40 hexadecimal digits: {revision!r}")
    if not any(file.path.endswith(".safetensors") for file in files):
        return _unusable(path, "it lists no safetensors file")
    return Model(Hub(endpoint.rstrip("/"), repository, revision), files)


def _file(row: Mapping[str, Any]) -> ModelFile:
    path, size, sha256 = str(row["path"]), int(row["size"]), str(row["sha256"])
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)*", path, re.ASCII):
        raise ValueError(f"path {path!r} does not stay in its folder")
    if size < 0 or not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise ValueError(f"{path} has no size and SHA-256")
    return ModelFile(path, size, sha256)


def _unusable(path: Path, why: str) -> Refusal:
    return Refusal(
        f"model_manifest={path} is no manifest of a model: {why}",
        "give one that python -m service.model_cache wrote, or leave model_manifest out",
    )


def _mib(sizes: Iterable[int]) -> int:
    return math.ceil(sum(sizes) / MIB)
