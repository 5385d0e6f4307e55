"""Checkpoints that are whole in form and tiny, for what is judged by names, sizes and digests."""

import json
from pathlib import Path

from provision._model import Model

INDEX = "transformers.safetensors.index.json"
SHARDS = ("transformers-00001-of-00002.safetensors", "transformers-00002-of-00002.safetensors")


def write_checkpoint(folder: Path) -> Path:
    """Write a folder in the layout of ``sesame/csm-1b``, with two shards of one number each."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "csm"}', encoding="utf-8")
    (folder / "generation_config.json").write_text("{}", encoding="utf-8")
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    for number, name in enumerate(SHARDS):
        (folder / name).write_bytes(shard(bytes([number, 0, 0, 0])))
    weights = {f"tensor.{number}": name for number, name in enumerate(SHARDS)}
    (folder / INDEX).write_text(json.dumps({"weight_map": weights}), encoding="utf-8")
    (folder / "prompts").mkdir()
    (folder / "prompts" / "conversational_a.wav").write_bytes(b"RIFF")
    return folder


def shard(data: bytes) -> bytes:
    """Return a safetensors file with one float32 tensor."""
    tensor = {"dtype": "F32", "shape": [len(data) // 4], "data_offsets": [0, len(data)]}
    header = json.dumps({"__metadata__": {"format": "pt"}, "tensor": tensor}).encode()
    return len(header).to_bytes(8, "little") + header + data


def folder_of(model: Model) -> Path:
    """Return the folder that a model was read from."""
    assert isinstance(model.origin, Path)
    return model.origin
