"""Which model folders can be deployed, and what of them travels."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from provision._checkpoint import read_model
from provision._docker import Refusal
from provision._model import CsmEngine, Hub, Model, read_manifest
from tests.provision.checkpoints import INDEX, SHARDS, shard, write_checkpoint

COMMIT = "c92a71e1c419772e25be7dc14d952c2521a740ab"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "csm")


def model_of(folder: Path) -> Model:
    model = read_model(folder)
    assert isinstance(model, Model), model
    return model


def test_only_what_the_engine_reads_travels(folder: Path) -> None:
    for stray in ("ckpt.pt", "model.safetensors", "README.md", "prompts/notes.txt"):
        (folder / stray).write_bytes(b"not ours")
    assert [file.path for file in model_of(folder).files] == [
        "config.json",
        "generation_config.json",
        "prompts/conversational_a.wav",
        "tokenizer.json",
        *SHARDS,
        INDEX,
    ]


def test_the_same_files_are_the_same_model_wherever_they_are(folder: Path, tmp_path: Path) -> None:
    other = write_checkpoint(tmp_path / "elsewhere")
    assert model_of(folder).digest == model_of(other).digest


def test_another_byte_is_another_model(folder: Path, tmp_path: Path) -> None:
    other = write_checkpoint(tmp_path / "other")
    (other / SHARDS[1]).write_bytes(shard(b"\x02\0\0\0"))
    assert model_of(folder).digest != model_of(other).digest


def test_links_lead_to_their_files_as_in_a_hubs_cache(folder: Path) -> None:
    blob = folder.parent / "blob"
    (folder / SHARDS[0]).rename(blob)
    (folder / SHARDS[0]).symlink_to(blob)
    size = next(file.size for file in model_of(folder).files if file.path == SHARDS[0])
    assert size == blob.stat().st_size


def test_the_manifest_is_one_that_sha256sum_checks(folder: Path) -> None:
    checked = subprocess.run(
        ["sha256sum", "--check", "--strict", "--quiet"],
        cwd=folder,
        input=model_of(folder).manifest.encode(),
        check=False,
    )
    assert checked.returncode == 0


def test_a_checkpoint_of_one_file_needs_no_index(folder: Path) -> None:
    (folder / INDEX).unlink()
    (folder / "model.safetensors").write_bytes(shard(b"\0\0\0\0"))
    assert "model.safetensors" in {file.path for file in model_of(folder).files}


def without(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def holding(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def only_a_pickle(folder: Path) -> None:
    (folder / INDEX).unlink()
    (folder / "ckpt.pt").write_bytes(b"PK")


def only_a_configuration(folder: Path) -> None:
    (folder / INDEX).unlink()


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4\n"
OUTSIDE = json.dumps({"weight_map": {"tensor": "../secret.safetensors"}}).encode()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (without("config.json"), "has no config.json, so it is no checkpoint"),
        (without("tokenizer.json"), "has no tokenizer.json"),
        (without(SHARDS[1]), f"1 of the 2 shards that {INDEX} lists are not in"),
        (only_a_pickle, "only as a pickle, which runs code when it is read: ckpt.pt"),
        (only_a_configuration, f"has neither {INDEX} nor model.safetensors"),
        (holding(SHARDS[0], POINTER), f"{SHARDS[0]} is only a pointer to a large file"),
        (holding("tokenizer.json", POINTER), "tokenizer.json is only a pointer"),
        (holding(SHARDS[0], shard(b"\0\0\0\0")[:-1]), "is not whole: it has"),
        (holding(SHARDS[0], b"\x80\x04pickle"), "is no safetensors file"),
        (holding(SHARDS[0], b""), "is no safetensors file"),
        (holding("config.json", b'{"model_type": "llama"}'), "of the type 'llama', not 'csm'"),
        (holding("config.json", b"{"), "config.json is no JSON"),
        (holding("config.json", b"[]"), "config.json holds no table"),
        (holding(INDEX, b"{}"), "lists no shards"),
        (holding(INDEX, OUTSIDE), "no safetensors file beside it: ../secret.safetensors"),
        (holding("prompts/a\nb.wav", b"RIFF"), "a name that cannot travel"),
    ],
)
def test_a_folder_that_is_no_whole_checkpoint_is_refused_with_the_reason(
    folder: Path, damage: Callable[[Path], object], words: str
) -> None:
    damage(folder)
    refusal = read_model(folder)
    assert isinstance(refusal, Refusal)
    assert words in refusal.reason
    assert refusal.remedy


def test_a_folder_that_is_not_there_is_refused_by_its_path(tmp_path: Path) -> None:
    refusal = read_model(tmp_path / "none")
    assert isinstance(refusal, Refusal)
    assert str(tmp_path / "none") in refusal.reason


def test_only_what_is_missing_or_different_has_yet_to_travel(folder: Path) -> None:
    model = model_of(folder)
    placed = {file.path: file.sha256 for file in model.files}
    assert model.missing_mib(placed) == 0
    assert model.missing_mib({**placed, SHARDS[0]: "00"}) == 1
    assert model.missing_mib({}) == 1


def test_memory_follows_from_the_weights(folder: Path) -> None:
    engine = CsmEngine(model_of(folder), "cpu")
    assert engine.memory_limit_mib == 1 + 2048
    assert engine.needed_memory_mib == 1024 + 1


def test_the_published_manifest_is_the_whole_model() -> None:
    model = read_manifest()
    assert isinstance(model, Model)
    assert isinstance(model.origin, Hub)
    assert model.origin.url_of("config.json") == (
        "https://huggingface.co/sesame/csm-1b/resolve/"
        "c92a71e1c419772e25be7dc14d952c2521a740ab/config.json"
    )
    assert model.largest.path == SHARDS[0]
    paths = [file.path for file in model.files]
    assert set(paths) >= {"config.json", "tokenizer.json", *SHARDS, INDEX}
    assert sum(path.startswith("prompts/") for path in paths) == 6
    assert model.weights_mib == 6804


def test_a_folder_and_a_hub_with_the_same_files_are_the_same_model(
    folder: Path, tmp_path: Path
) -> None:
    model = model_of(folder)
    manifest = tmp_path / "manifest.json"
    manifest.write_text(Hub("https://hub", "me/mine", COMMIT).manifest_of(model), encoding="utf-8")
    fetched = read_manifest(manifest, "https://models.lan/")
    assert isinstance(fetched, Model)
    assert fetched.digest == model.digest
    assert fetched.origin == Hub("https://models.lan", "me/mine", COMMIT)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        ("{", "JSONDecodeError"),
        ("[]", "TypeError"),
        ({"files": []}, "it lists no safetensors file"),
        ({"files": [{"path": "../x", "size": 1, "sha256": "0" * 64}]}, "does not stay in its"),
        ({"files": [{"path": "/etc/x", "size": 1, "sha256": "0" * 64}]}, "does not stay in its"),
        ({"files": [{"path": "a b;rm", "size": 1, "sha256": "0" * 64}]}, "does not stay in its"),
        ({"files": [{"path": "x", "size": 1, "sha256": "00"}]}, "has no size and SHA-256"),
        ({"repository": "a/b/c"}, "repository is no name such as sesame/csm-1b: 'a/b/c'"),
        ({"revision": "main"}, "revision is no commit of 40 hexadecimal digits: 'main'"),
    ],
)
def test_a_manifest_that_is_none_is_refused_with_its_fault(
    content: str | dict[str, object] | None, words: str, tmp_path: Path
) -> None:
    manifest = tmp_path / "manifest.json"
    if isinstance(content, dict):
        shard = {"path": SHARDS[0], "size": 1, "sha256": "0" * 64}
        table = {"repository": "me/mine", "revision": COMMIT, "files": [shard], **content}
        manifest.write_text(json.dumps(table), encoding="utf-8")
    elif content is not None:
        manifest.write_text(content, encoding="utf-8")
    refusal = read_manifest(manifest)
    assert isinstance(refusal, Refusal)
    assert f"model_manifest={manifest}" in refusal.reason
    assert words in refusal.reason
