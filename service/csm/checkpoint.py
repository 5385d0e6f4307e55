"""From a folder in the transformers layout of `sesame/csm-1b` to the model and its codec.

The folder holds `config.json`, an index and the safetensors shards that it lists. Only safetensors
are opened: a pickle runs code when it is read. It does not know where folders come from, and
fetches nothing.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from service.csm.config import CsmConfig, TransformerConfig
from service.csm.mimi import Mimi
from service.csm.model import CSM, TorchCSM
from service.csm.quantise import Bits, QuantiseError

__all__ = [
    "CODEC_PREFIX",
    "CheckpointDamagedError",
    "CheckpointError",
    "CheckpointMismatchError",
    "CheckpointMissingError",
    "CheckpointUnsafeError",
    "Loaded",
    "Precision",
    "csm_shapes",
    "load",
    "read_config",
]

CODEC_PREFIX = "codec_model."
AUDIO_EMBEDDING = "depth_decoder.model.embed_tokens.weight"
AUDIO_EMBEDDING_TWIN = "backbone_model.embed_tokens.embed_audio_tokens.weight"
"""The same tensor under the backbone's name. transformers writes one of the two, by its version."""

INDEXES = ("transformers.safetensors.index.json", "model.safetensors.index.json")
SINGLE = "model.safetensors"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
LFS_POINTER = b"version https://git-lfs"


Precision = Literal["fp32", "bf16", "int8", "int4"]
"""Of the model's products; int8 and int4 are the CPU's."""

DTYPES: Mapping[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}
BITS: Mapping[str, Bits] = {"int8": 8, "int4": 4}


class CheckpointError(Exception):
    """A folder that cannot be loaded.

    CheckpointError
    ├── CheckpointMissingError     there is no checkpoint at that place
    ├── CheckpointDamagedError     a part of it is not there or not whole
    ├── CheckpointMismatchError    it is whole, and another model's
    └── CheckpointUnsafeError      it could only be read by running what is in it
    """


class CheckpointMissingError(CheckpointError):
    """There is no folder, or none with a configuration and weights."""


class CheckpointDamagedError(CheckpointError):
    """A shard is absent, cut short, or a pointer to a file that was not fetched."""


class CheckpointMismatchError(CheckpointError):
    """Another model's configuration, a tensor that is absent, or one that does not fit."""


class CheckpointUnsafeError(CheckpointError):
    """The weights are a pickle, or an index points out of its folder."""


class Loaded(NamedTuple):
    """What `load` gives."""

    model: CSM
    codec: Mimi


def load(
    folder: Path, *, device: torch.device | str = "cpu", precision: Precision = "fp32"
) -> Loaded:
    """Load the model and its codec.

    The model's products are computed in `precision`, int8 and int4 by as many threads as torch has
    at this moment; the codec stays float32, whose errors would be heard. On the CPU, tensors that
    need neither conversion nor fusing stay mapped from the file.

    Raises:
        CheckpointError: Or the subclass of it that says what is wrong.
        ValueError: The device cannot compute in that precision.
        OSError: A file cannot be read.
    """
    device = torch.device(device)
    if precision in BITS and device.type != "cpu":
        raise ValueError(
            f"{precision} runs on the CPU alone, and the device is {device}: choose bf16 or fp32"
        )
    config = read_config(folder)
    with ExitStack() as files:
        stored = _open(folder, files)
        _check(stored, csm_shapes(config))
        codec = Mimi(config.codec)
        codec_shapes = codec.checkpoint_names()
        _check(stored, {CODEC_PREFIX + name: shape for name, shape in codec_shapes.items()})
        tensors = _model_tensors(config, lambda name: stored[name].read())
        if precision in BITS:
            model = _packed_model(config, tensors, BITS[precision])
        else:
            model = _torch_model(config, tensors, device, DTYPES[precision])
        codec.load({name: stored[CODEC_PREFIX + name].read() for name in codec_shapes})
    codec.to(device).requires_grad_(requires_grad=False).eval()
    return Loaded(model, codec)


def _torch_model(
    config: CsmConfig,
    tensors: Iterable[tuple[str, Tensor]],
    device: torch.device,
    dtype: torch.dtype,
) -> CSM:
    with torch.device("meta"):
        model = TorchCSM(config)
    model.load_state_dict(
        {name: tensor.to(device=device, dtype=dtype) for name, tensor in tensors}, assign=True
    )
    return model.requires_grad_(requires_grad=False).eval()


def _packed_model(config: CsmConfig, tensors: Iterable[tuple[str, Tensor]], bits: Bits) -> CSM:
    # Where it is not asked for, ONNX Runtime need not be there: on a host with a GPU, for one.
    from service.csm.packed import PackedCSM  # noqa: PLC0415 (see above)

    try:
        return PackedCSM(config, tensors, bits)
    except QuantiseError as error:
        raise CheckpointMismatchError(
            f"the weights cannot be rounded to {bits} bits: {error}; choose bf16 or fp32"
        ) from error


def read_config(folder: Path) -> CsmConfig:
    """Read a checkpoint's `config.json`.

    Raises:
        CheckpointMissingError: There is none.
        CheckpointMismatchError: It is another model's, or is no configuration at all.
    """
    if not folder.is_dir():
        raise CheckpointMissingError(f"the model folder does not exist: {folder}")
    path = folder / "config.json"
    if not path.is_file():
        raise CheckpointMissingError(f"the model folder has no config.json: {folder}")
    try:
        return CsmConfig.read(_json(path))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointMismatchError(f"{path} does not describe a CSM model: {error}") from error


def csm_shapes(config: CsmConfig) -> dict[str, tuple[int, ...]]:
    """Give the name and shape of each tensor of the model, codec apart, as the files have them."""
    width, codes = config.backbone.width, config.audio_vocabulary
    return {
        "embed_text_tokens.weight": (config.text_vocabulary, width),
        AUDIO_EMBEDDING: (config.codebooks * codes, width),
        "lm_head.weight": (codes, width),
        "depth_decoder.model.inputs_embeds_projector.weight": (config.depth.width, width),
        "depth_decoder.codebooks_head.weight": (config.codebooks - 1, config.depth.width, codes),
        **_stack_shapes("backbone_model.", config.backbone),
        **_stack_shapes("depth_decoder.model.", config.depth),
    }


def _stack_shapes(prefix: str, config: TransformerConfig) -> dict[str, tuple[int, ...]]:
    width, ffn = config.width, config.ffn_width
    queries, keys = config.heads * config.head_width, config.kv_heads * config.head_width
    layer = {
        "self_attn.q_proj": (queries, width),
        "self_attn.k_proj": (keys, width),
        "self_attn.v_proj": (keys, width),
        "self_attn.o_proj": (width, queries),
        "mlp.gate_proj": (ffn, width),
        "mlp.up_proj": (ffn, width),
        "mlp.down_proj": (width, ffn),
        "input_layernorm": (width,),
        "post_attention_layernorm": (width,),
    }
    shapes: dict[str, tuple[int, ...]] = {
        f"{prefix}layers.{index}.{name}.weight": shape
        for index in range(config.layers)
        for name, shape in layer.items()
    }
    return {**shapes, f"{prefix}norm.weight": (width,)}


def _model_tensors(
    config: CsmConfig, read: Callable[[str], Tensor]
) -> Iterator[tuple[str, Tensor]]:
    """Give the tensors of `TorchCSM.state_dict()` one by one, so that few are in memory twice."""
    yield "text_embedding.weight", read("embed_text_tokens.weight")
    yield "audio_embedding.weight", read(AUDIO_EMBEDDING)
    yield "head.weight", read("lm_head.weight")[: config.codes]
    yield "projection.weight", read("depth_decoder.model.inputs_embeds_projector.weight")
    for index, head in enumerate(read("depth_decoder.codebooks_head.weight")):
        yield f"depth_heads.{index}.weight", head.T[: config.codes].contiguous()
    yield from _stack_tensors("backbone.", "backbone_model.", config.backbone, read)
    yield from _stack_tensors("depth.", "depth_decoder.model.", config.depth, read)


FUSED: Mapping[str, tuple[str, ...]] = {
    "attention_norm": ("input_layernorm",),
    "query_key_value": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention_out": ("self_attn.o_proj",),
    "ffn_norm": ("post_attention_layernorm",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}
"""Of which tensors of the files, one above the other, each weight of a layer is made."""


def _stack_tensors(
    ours: str, theirs: str, config: TransformerConfig, read: Callable[[str], Tensor]
) -> Iterator[tuple[str, Tensor]]:
    for index in range(config.layers):
        for name, parts in FUSED.items():
            tensors = [read(f"{theirs}layers.{index}.{part}.weight") for part in parts]
            weight = torch.cat(tensors) if len(tensors) > 1 else tensors[0]
            yield f"{ours}layers.{index}.{name}.weight", weight
    yield f"{ours}norm.weight", read(f"{theirs}norm.weight")


class _Stored(NamedTuple):
    """One tensor in an open shard."""

    shard: Any  # safetensors does not type its handles
    name: str

    def read(self) -> Tensor:
        tensor: Tensor = self.shard.get_tensor(self.name)
        return tensor

    def shape(self) -> tuple[int, ...]:
        return tuple(self.shard.get_slice(self.name).get_shape())


def _open(folder: Path, files: ExitStack) -> dict[str, _Stored]:
    """Open every shard; give the tensors by name."""
    stored = {}
    for path in _shards(folder):
        shard = files.enter_context(_open_shard(path))
        stored.update({name: _Stored(shard, name) for name in shard.keys()})  # noqa: SIM118 (no mapping)
    if AUDIO_EMBEDDING_TWIN in stored:
        stored.setdefault(AUDIO_EMBEDDING, stored[AUDIO_EMBEDDING_TWIN])
    return stored


def _shards(folder: Path) -> list[Path]:
    index = next((folder / name for name in INDEXES if (folder / name).is_file()), None)
    if index is None:
        return [_single(folder)]
    names = sorted(set(_weight_map(index).values()))
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise CheckpointUnsafeError(
                f"{index} lists what is no safetensors file beside it: {name}"
            )
    absent = [name for name in names if not (folder / name).is_file()]
    if absent:
        raise CheckpointDamagedError(
            f"{len(absent)} of the {len(names)} shards that {index.name} lists are not in {folder}:"
            f" {', '.join(absent)}"
        )
    return [folder / name for name in names]


def _single(folder: Path) -> Path:
    if (folder / SINGLE).is_file():
        return folder / SINGLE
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    if pickles:
        raise CheckpointUnsafeError(
            f"{folder} has its weights only as a pickle, which runs code when it is read:"
            f" {', '.join(pickles)}; fetch the safetensors files"
        )
    raise CheckpointMissingError(f"{folder} has neither {INDEXES[0]} nor {SINGLE}")


def _weight_map(index: Path) -> dict[str, str]:
    try:
        weights = _json(index)["weight_map"]
        return {str(name): str(shard) for name, shard in weights.items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointDamagedError(f"{index} is no index of shards: {error}") from error


def _open_shard(path: Path) -> Any:  # noqa: ANN401 (its handle has no types)
    try:
        return safe_open(path, framework="pt")
    except SafetensorError as error:
        with path.open("rb") as file:
            start = file.read(len(LFS_POINTER))
        if start == LFS_POINTER:
            raise CheckpointDamagedError(
                f"{path} is only a pointer to a large file; fetch the file itself: git lfs pull"
            ) from error
        if start.startswith((b"PK\x03\x04", b"\x80")):
            raise CheckpointUnsafeError(
                f"{path} is a pickle under another name; fetch the safetensors files"
            ) from error
        raise CheckpointDamagedError(f"{path} is not whole, fetch it again: {error}") from error


def _check(stored: Mapping[str, _Stored], wanted: Mapping[str, tuple[int, ...]]) -> None:
    absent = [name for name in wanted if name not in stored]
    if absent:
        raise CheckpointMismatchError(
            f"{len(absent)} of {len(wanted)} tensors are not there, the first of them {absent[0]};"
            " take the files that transformers.safetensors.index.json lists,"
            " not those of the original format"
        )
    for name, shape in wanted.items():
        found = stored[name].shape()
        if found != tuple(shape):
            raise CheckpointMismatchError(
                f"the tensor {name} has the shape {found}; config.json asks for {tuple(shape)}"
            )


def _json(path: Path) -> dict[str, Any]:
    with path.open(encoding="utf-8") as file:
        table: dict[str, Any] = json.load(file)
    return table
