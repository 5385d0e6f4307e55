"""Whether a folder of the deploying machine is a whole CSM checkpoint, and what of it travels.

Pure functions over a folder. Knows names, sizes and digests, and nothing of tensors or of pyinfra.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from provision._docker import Refusal
from provision._model import Model, ModelFile

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

FETCH = "fetch the model again, or give another model_folder"


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
