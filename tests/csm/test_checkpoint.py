"""Folders that load, and what is said of those that do not."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from service.csm import (
    CheckpointDamagedError,
    CheckpointError,
    CheckpointMismatchError,
    CheckpointMissingError,
    CheckpointUnsafeError,
    TorchCSM,
    load,
    random_checkpoint,
)
from service.csm.checkpoint import (
    AUDIO_EMBEDDING,
    AUDIO_EMBEDDING_TWIN,
    CODEC_PREFIX,
    csm_shapes,
)
from service.csm.config import CsmConfig
from service.csm.mimi import Mimi
from tests.csm.conftest import Pair

INDEX = "transformers.safetensors.index.json"
SHARD = "transformers-00001-of-00001.safetensors"

PUBLISHED_TENSORS = 538
PUBLISHED_NAMES = "7f7a21f6c087e6522a28094ae8648e9b00f2842f15dea5391e51ea5dec1386f4"
"""SHA-256 of the names in the index of ``sesame/csm-1b`` at c92a71e1, sorted, a line each."""


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


def rewrite(path: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def edit(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_the_published_checkpoint_holds_exactly_what_is_read() -> None:
    config = CsmConfig.read(random_checkpoint.SIZES["1b"])
    codec = Mimi(config.codec).checkpoint_names()
    names = {*csm_shapes(config), *(CODEC_PREFIX + name for name in codec), AUDIO_EMBEDDING_TWIN}
    assert len(names) == PUBLISHED_TENSORS
    assert hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest() == PUBLISHED_NAMES


def absent_folder(folder: Path) -> None:
    shutil.rmtree(folder)


def absent_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def absent_weights(folder: Path) -> None:
    (folder / INDEX).unlink()


def absent_shard(folder: Path) -> None:
    (folder / SHARD).unlink()


def truncated_shard(folder: Path) -> None:
    content = (folder / SHARD).read_bytes()
    (folder / SHARD).write_bytes(content[: len(content) // 2])


def empty_shard(folder: Path) -> None:
    (folder / SHARD).write_bytes(b"")


def pointer(folder: Path) -> None:
    (folder / SHARD).write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    )


def broken_index(folder: Path) -> None:
    (folder / INDEX).write_text("{}")


def other_model(folder: Path) -> None:
    edit(folder / "config.json", model_type="llama")


def broken_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def untied_embeddings(folder: Path) -> None:
    edit(folder / "config.json", tie_codebooks_embeddings=False)


def too_many_codebooks(folder: Path) -> None:
    edit(folder / "config.json", codec_config={"num_quantizers": 16})


def other_rope(folder: Path) -> None:
    edit(folder / "config.json", rope_scaling={"rope_type": "yarn", "factor": 4})


def wrong_shape(folder: Path) -> None:
    edit(folder / "config.json", text_vocab_size=300)


def absent_tensor(folder: Path) -> None:
    rewrite(folder / SHARD, lambda tensors: tensors.pop("lm_head.weight"))


def absent_codec_tensor(folder: Path) -> None:
    rewrite(folder / SHARD, lambda tensors: tensors.pop("codec_model.upsample.conv.weight"))


def pickle_only(folder: Path) -> None:
    (folder / INDEX).unlink()
    torch.save({}, folder / "ckpt.pt")


def disguised_pickle(folder: Path) -> None:
    torch.save({"lm_head.weight": torch.zeros(1)}, folder / SHARD)


def old_disguised_pickle(folder: Path) -> None:
    torch.save({}, folder / SHARD, _use_new_zipfile_serialization=False)


def index_that_points_out(folder: Path) -> None:
    edit(folder / INDEX, weight_map={"lm_head.weight": "../other.safetensors"})


def index_of_pickles(folder: Path) -> None:
    edit(folder / INDEX, weight_map={"lm_head.weight": "pytorch_model.bin"})


@pytest.mark.parametrize(
    ("damage", "error", "complaint"),
    [
        (absent_folder, CheckpointMissingError, "does not exist: .*/model$"),
        (absent_config, CheckpointMissingError, "no config.json"),
        (absent_weights, CheckpointMissingError, "neither transformers.safetensors.index.json"),
        (absent_shard, CheckpointDamagedError, f"1 of the 1 shards .*: {SHARD}$"),
        (truncated_shard, CheckpointDamagedError, "not whole, fetch it again"),
        (empty_shard, CheckpointDamagedError, "not whole, fetch it again"),
        (pointer, CheckpointDamagedError, "git lfs pull"),
        (broken_index, CheckpointDamagedError, "no index of shards"),
        (other_model, CheckpointMismatchError, "model_type is 'llama' and must be 'csm'"),
        (broken_config, CheckpointMismatchError, "does not describe a CSM model"),
        (untied_embeddings, CheckpointMismatchError, "tie_codebooks_embeddings"),
        (too_many_codebooks, CheckpointMismatchError, "num_codebooks must be 2 to 16, .*: 32"),
        (other_rope, CheckpointMismatchError, "rope_type is 'yarn'"),
        (wrong_shape, CheckpointMismatchError, r"shape \(260, 64\); .* \(300, 64\)"),
        (absent_tensor, CheckpointMismatchError, "first of them lm_head.weight"),
        (absent_codec_tensor, CheckpointMismatchError, "first of them codec_model."),
        (pickle_only, CheckpointUnsafeError, "runs code when it is read: ckpt.pt"),
        (disguised_pickle, CheckpointUnsafeError, "pickle under another name"),
        (old_disguised_pickle, CheckpointUnsafeError, "pickle under another name"),
        (index_that_points_out, CheckpointUnsafeError, "beside it: ../other.safetensors"),
        (index_of_pickles, CheckpointUnsafeError, "beside it: pytorch_model.bin"),
    ],
)
def test_a_folder_that_cannot_be_loaded_is_refused_with_the_reason(
    folder: Path,
    damage: Callable[[Path], None],
    error: type[CheckpointError],
    complaint: str,
) -> None:
    damage(folder)
    with pytest.raises(CheckpointError, match=complaint) as caught:
        load(folder)
    assert caught.type is error


def test_the_embedding_loads_under_either_of_its_names(folder: Path, tiny: Pair) -> None:
    rewrite(
        folder / SHARD,
        lambda tensors: tensors.update({AUDIO_EMBEDDING_TWIN: tensors.pop(AUDIO_EMBEDDING)}),
    )
    model, _ = load(folder)
    assert torch.equal(model.audio_embedding.weight, tiny.model.audio_embedding.weight)


def test_what_transformers_saves_loads_too(tiny: Pair, tmp_path: Path) -> None:
    tiny.oracle.save_pretrained(tmp_path, max_shard_size="1MB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    model, _ = load(tmp_path)
    assert isinstance(model, TorchCSM)
    for name, weight in tiny.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], weight), name


def test_a_checkpoint_loads_in_half_the_memory_with_the_codec_unchanged(tiny: Pair) -> None:
    model, codec = load(tiny.folder, precision="bf16")
    assert isinstance(model, TorchCSM)
    assert {weight.dtype for weight in model.state_dict().values()} == {torch.bfloat16}
    assert {weight.dtype for weight in codec.parameters()} == {torch.float32}
    with torch.inference_mode():
        codes = model.step(model.state(slots=2), batch=2)
    assert codes.shape == (2, 32)
    assert codes.min() >= 0


def test_loaded_weights_ask_for_no_gradients(tiny: Pair) -> None:
    assert not any(weight.requires_grad for weight in tiny.model.parameters())
