"""Random checkpoints have the layout of the real one, and the same seed writes the same bytes."""

import copy
import wave
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from service.csm import CsmConfig, TextTokenizer, random_checkpoint
from service.csm.checkpoint import (
    AUDIO_EMBEDDING,
    AUDIO_EMBEDDING_TWIN,
    CODEC_PREFIX,
    csm_shapes,
)
from tests.csm.conftest import Pair


def test_transformers_finds_every_tensor_where_it_looks(tiny_folder: Path) -> None:
    import transformers

    _, found = transformers.CsmForConditionalGeneration.from_pretrained(
        tiny_folder, output_loading_info=True
    )
    assert not found["missing_keys"]
    assert not found["unexpected_keys"]
    assert not found["mismatched_keys"]


@pytest.mark.parametrize("size", random_checkpoint.SIZES)
def test_names_and_shapes_of_the_model_are_those_of_transformers(size: str) -> None:
    import transformers

    table = random_checkpoint.SIZES[size]
    with torch.device("meta"):
        config = transformers.CsmConfig(**copy.deepcopy(dict(table)))  # it writes into what it gets
        oracle = transformers.CsmForConditionalGeneration(config)
    theirs = {
        name: tuple(weight.shape)
        for name, weight in oracle.state_dict().items()
        if not name.startswith(CODEC_PREFIX) and name != AUDIO_EMBEDDING_TWIN
    }
    assert csm_shapes(CsmConfig.read(table)) == theirs


def test_names_and_shapes_of_the_files_are_those_that_transformers_writes(
    tiny: Pair, tmp_path: Path
) -> None:
    tiny.oracle.save_pretrained(tmp_path)
    theirs = shapes_in(tmp_path)
    theirs.setdefault(AUDIO_EMBEDDING, theirs.pop(AUDIO_EMBEDDING_TWIN, ()))
    assert shapes_in(tiny.folder) == theirs


def shapes_in(folder: Path) -> dict[str, tuple[int, ...]]:
    return {
        name: tuple(weight.shape)
        for shard in folder.glob("*.safetensors")
        for name, weight in load_file(shard).items()
    }


def test_the_full_size_is_what_an_empty_configuration_means() -> None:
    full = CsmConfig.read(random_checkpoint.SIZES["1b"])
    bare = CsmConfig.read({"model_type": "csm"})
    assert (full.backbone.width, full.depth.head_width) == (2048, 128)
    assert full.codec == bare.codec
    for stack in ("backbone", "depth"):
        for field in ("width", "layers", "heads", "kv_heads", "head_width", "ffn_width"):
            assert getattr(getattr(full, stack), field) == getattr(getattr(bare, stack), field)


def test_the_same_seed_writes_the_same_bytes(tiny_folder: Path, tmp_path: Path) -> None:
    table = random_checkpoint.SIZES["tiny"]
    random_checkpoint.write(tmp_path / "same", table, clips=0.1)
    random_checkpoint.write(tmp_path / "other", table, clips=0.1, seed=1)
    files = [path.relative_to(tiny_folder) for path in tiny_folder.rglob("*") if path.is_file()]
    assert len(files) == 11
    for file in files:
        assert (tmp_path / "same" / file).read_bytes() == (tiny_folder / file).read_bytes(), file
    shard = next((tmp_path / "other").glob("*.safetensors"))
    assert shard.read_bytes() != (tiny_folder / shard.name).read_bytes()


def test_the_clips_are_audible_24_khz_mono(tiny_folder: Path) -> None:
    clips = sorted((tiny_folder / "prompts").glob("*.wav"))
    assert [clip.stem for clip in clips] == sorted(random_checkpoint.CLIP_SECONDS)
    with wave.open(str(clips[0]), "rb") as file:
        assert file.getparams()[:3] == (1, 2, 24_000)
        samples = torch.frombuffer(bytearray(file.readframes(file.getnframes())), dtype=torch.int16)
    assert samples.float().std() > 1000


@torch.inference_mode()
def test_random_codes_decode_to_sound_that_does_not_clip(tiny: Pair) -> None:
    codes = torch.randint(128, (1, 32, 25), generator=torch.Generator().manual_seed(1))
    audio = tiny.codec.decode(codes)
    assert 0.05 < audio.std() < 0.5
    assert audio.abs().max() < 1


def test_the_tokenizer_knows_every_character(tiny_folder: Path) -> None:
    tokenizer = TextTokenizer(tiny_folder / "tokenizer.json")
    tokens = tokenizer.encode(0, "Ça va? 東京 🙂")
    assert max(tokens) < 260
    assert len(tokens) == 2 + len("[0]Ça va? 東京 🙂".encode())


def test_the_command_line_writes_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert random_checkpoint.main(["--size", "tiny", str(tmp_path / "model")]) == 0
    assert (tmp_path / "model" / "transformers.safetensors.index.json").is_file()
    assert str(tmp_path / "model") in capsys.readouterr().out
