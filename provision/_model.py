"""What a model folder of the deploying machine holds, and whether it is a whole CSM checkpoint.

Pure functions over a folder. Knows names, sizes and digests, and nothing of tensors or of pyinfra.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from provision._accelerator import Accelerator
from provision._docker import Refusal

MODEL_TYPE = "csm"
CONFIGURATION = "config.json"
TOKENIZER = "tokenizer.json"
OPTIONAL = ("generation_config.json",)
CLIPS = "prompts/*.wav"
INDEXES = ("transformers.safetensors.index.json", "model.safetensors.index.json")
"""Lists of the shards: the name in ``sesame/csm-1b``, then the one that transformers writes."""

SINGLE = "model.safetensors"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
LFS_POINTER = b"version https://git-lfs"
HEADER_LENGTH_BYTES = 8
LONGEST_HEADER_BYTES = 100 * 10**6
METADATA = "__metadata__"
"""All three of the safetensors format."""

MEMORY_BESIDE_WEIGHTS_MIB = 2048
"""Memory of the container beside the weights: the libraries, caches of the streams, the codec."""

NEEDED_MEMORY_MIB = 1024
NEEDED_SHARE_OF_WEIGHTS = 0.35
"""Memory without which the model cannot be served: 8-bit weights take 0.27 of the float32 files."""

FETCH = "fetch the model again, or give another model_folder"
MIB = 2**20


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of a model: its path below the folder, its size in bytes and its SHA-256."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Model:
    """The files of a whole checkpoint, sorted by path, and where they are."""

    folder: Path
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
    """A model and what it runs on."""

    model: Model
    accelerator: Accelerator

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


@cache
def read_model(folder: Path) -> Model | Refusal:
    """Read a model folder once a run, or say why it cannot be deployed.

    Only the files that the engine reads belong to the model; whatever else the folder holds stays
    where it is. A link leads to its file, as in the cache of a model hub.
    """
    try:
        paths = list(_needed_files(folder))
        files = [_describe(folder, path) for path in sorted(paths)]
        return Model(folder, tuple(files))
    except _UnfitError as unfit:
        return Refusal(str(unfit), unfit.remedy)
    except OSError as error:
        return Refusal(f"{error.filename or folder} cannot be read: {error.strerror}", FETCH)


class _UnfitError(Exception):
    """Why a folder is no whole checkpoint, and the next step."""

    def __init__(self, reason: str, remedy: str = FETCH) -> None:
        super().__init__(reason)
        self.remedy = remedy


def _needed_files(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        raise _UnfitError(
            f"model_folder={folder} is no folder of the deploying machine",
            "give the path of a folder on the machine that you deploy from",
        )
    yield _configuration(folder)
    yield from _weights(folder)
    yield _tokenizer(folder)
    yield from (folder / name for name in OPTIONAL if (folder / name).is_file())
    yield from (path for path in folder.glob(CLIPS) if path.is_file())


def _configuration(folder: Path) -> Path:
    path = folder / CONFIGURATION
    if not path.is_file():
        raise _UnfitError(
            f"model_folder={folder} has no {CONFIGURATION}, so it is no checkpoint",
            "give the folder that holds it; python -m service.csm.random_checkpoint makes one "
            "that speaks noise, to try things on",
        )
    kind = _table(path).get("model_type")
    if kind != MODEL_TYPE:
        raise _UnfitError(
            f"{path} describes a model of the type {kind!r}, not {MODEL_TYPE!r}",
            "give a folder in the layout of sesame/csm-1b for transformers",
        )
    return path


def _tokenizer(folder: Path) -> Path:
    path = folder / TOKENIZER
    if not path.is_file():
        raise _UnfitError(f"model_folder={folder} has no {TOKENIZER}")
    return path


def _weights(folder: Path) -> Iterator[Path]:
    index = next((folder / name for name in INDEXES if (folder / name).is_file()), None)
    if index is None:
        yield _single(folder)
        return
    yield index
    names = _listed_shards(index)
    absent = [name for name in names if not (folder / name).is_file()]
    if absent:
        raise _UnfitError(
            f"{len(absent)} of the {len(names)} shards that {index.name} lists are not in "
            f"{folder}: {', '.join(absent)}"
        )
    for name in names:
        _judge_shard(folder / name)
        yield folder / name


def _single(folder: Path) -> Path:
    path = folder / SINGLE
    if path.is_file():
        _judge_shard(path)
        return path
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    if pickles:
        raise _UnfitError(
            f"model_folder={folder} has its weights only as a pickle, which runs code when it is "
            f"read: {', '.join(pickles)}",
            "fetch the safetensors files",
        )
    raise _UnfitError(f"model_folder={folder} has neither {INDEXES[0]} nor {SINGLE}")


def _listed_shards(index: Path) -> list[str]:
    weights = _table(index).get("weight_map")
    if not isinstance(weights, dict) or not weights:
        raise _UnfitError(f"{index} lists no shards")
    names = sorted({str(name) for name in weights.values()})
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise _UnfitError(f"{index} lists what is no safetensors file beside it: {name}")
    return names


def _judge_shard(path: Path) -> None:
    """Refuse a shard that is a pointer, a pickle, or shorter or longer than its header says."""
    _refuse_pointer(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(HEADER_LENGTH_BYTES), "little")
        header = file.read(length) if length <= LONGEST_HEADER_BYTES else b""
    try:
        tensors = json.loads(header)
        tensors.pop(METADATA, None)
        end = max(int(entry["data_offsets"][1]) for entry in tensors.values())
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        raise _UnfitError(f"{path} is no safetensors file, or its beginning is lost") from None
    whole = HEADER_LENGTH_BYTES + length + end
    if size != whole:
        raise _UnfitError(f"{path} is not whole: it has {size} bytes, its header says {whole}")


def _refuse_pointer(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(len(LFS_POINTER))
    if start == LFS_POINTER:
        raise _UnfitError(
            f"{path} is only a pointer to a large file", f"git -C {path.parent} lfs pull"
        )


def _table(path: Path) -> dict[str, Any]:
    _refuse_pointer(path)
    try:
        table = json.loads(path.read_bytes())
    except ValueError as error:
        raise _UnfitError(f"{path} is no JSON: {error}") from None
    if not isinstance(table, dict):
        raise _UnfitError(f"{path} holds no table")
    return table


def _describe(folder: Path, path: Path) -> ModelFile:
    name = path.relative_to(folder).as_posix()
    if not re.fullmatch(r"[\w./ -]+", name, re.ASCII):
        raise _UnfitError(f"{path!r} has a name that cannot travel", "rename it to plain letters")
    _refuse_pointer(path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return ModelFile(name, path.stat().st_size, digest)


def _mib(sizes: Iterable[int]) -> int:
    return math.ceil(sum(sizes) / MIB)
