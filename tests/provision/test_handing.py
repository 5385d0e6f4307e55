"""What one host may hand to another, and how it is kept on the way."""

import hashlib
from pathlib import Path
from typing import Literal

import pytest

from provision._docker import Refusal
from provision._handing import Archive, Seed, Shelf, is_whole, read_packed
from provision._image import LIGHT, Variant
from provision._model import CsmEngine, Model, ModelFile
from provision._network import TORCH_CPU_INDEX

IMAGE = "sesame-csm:0123456789ab"
IDENTITY = "sha256:5e5a3e0123456789"
CONTENT = b"an archive"
MODEL = Model(Path("/models/mine"), (ModelFile("model.safetensors", 1, "00"),))
WITH_CUDA = Variant("engine")
WITHOUT_CUDA = Variant("engine", TORCH_CPU_INDEX)


def seed(variant: Variant) -> Seed:
    return Seed("voice-1", "amd64", "debian:trixie-slim", variant, IMAGE, None)


def engine(accelerator: Literal["nvidia", "cpu"] | None) -> CsmEngine | None:
    return CsmEngine(MODEL, accelerator) if accelerator else None


def archive(content: bytes = CONTENT, seed: str = "voice-1") -> Archive:
    return Archive(IMAGE, seed, "11", len(content), hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize(
    ("variant", "accelerator"),
    [
        (LIGHT, None),
        (WITH_CUDA, "nvidia"),
        (WITH_CUDA, "cpu"),
        (WITHOUT_CUDA, "cpu"),
    ],
)
def test_a_host_takes_an_image_that_it_can_use(
    variant: Variant, accelerator: Literal["nvidia", "cpu"] | None
) -> None:
    assert seed(variant).refuse("amd64", engine(accelerator)) is None


@pytest.mark.parametrize(
    ("variant", "architecture", "accelerator", "words"),
    [
        (LIGHT, "arm64", None, "seed_host=voice-1 is amd64, this host arm64"),
        (LIGHT, "amd64", "cpu", "has the light image, this host needs the engine image"),
        (WITH_CUDA, "amd64", None, "has the engine image, this host needs the light one"),
        (WITHOUT_CUDA, "amd64", "nvidia", "without CUDA, this host needs the one with CUDA"),
    ],
)
def test_an_image_that_it_cannot_use_is_refused(
    variant: Variant,
    architecture: str,
    accelerator: Literal["nvidia", "cpu"] | None,
    words: str,
) -> None:
    refusal = seed(variant).refuse(architecture, engine(accelerator))
    assert isinstance(refusal, Refusal)
    assert words in refusal.reason
    assert "seed_host" in refusal.remedy


def test_what_a_seed_says_of_its_archive_is_read() -> None:
    found = read_packed("10 ab cd", IMAGE, "voice-1")
    assert (found.size, found.sha256, found.layers) == (10, "ab", "cd")


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    shelf = Shelf(tmp_path)
    place = shelf.image(IMAGE, IDENTITY)
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT)
    shelf.keep(place, archive())
    return shelf


def test_an_archive_that_is_kept_is_found_again(shelf: Shelf) -> None:
    assert shelf.find(IMAGE, IDENTITY) == archive()


def test_an_archive_under_another_tag_is_not_there(shelf: Shelf) -> None:
    assert shelf.find("sesame-csm:ba9876543210", IDENTITY) is None


def test_an_archive_with_another_byte_is_not_there(shelf: Shelf) -> None:
    shelf.image(IMAGE, IDENTITY).write_bytes(b"an Archive")
    assert shelf.find(IMAGE, IDENTITY) is None


def test_an_archive_that_was_cut_is_not_there(shelf: Shelf) -> None:
    shelf.image(IMAGE, IDENTITY).write_bytes(CONTENT[:-1])
    assert shelf.find(IMAGE, IDENTITY) is None


@pytest.mark.parametrize("note", [b"", b"{}", b'{"image": 1}', b"[]"])
def test_an_archive_of_which_nothing_is_known_is_not_there(shelf: Shelf, note: bytes) -> None:
    next(shelf.folder.rglob("*.json")).write_bytes(note)
    assert shelf.find(IMAGE, IDENTITY) is None


def test_the_next_archive_of_a_seed_takes_the_place_of_the_last(shelf: Shelf) -> None:
    following = "sha256:00ff00112233"
    place = shelf.image(IMAGE, following)
    place.write_bytes(CONTENT)
    shelf.keep(place, archive())
    assert not shelf.image(IMAGE, IDENTITY).exists()
    assert shelf.find(IMAGE, following) == archive()


def test_the_archives_of_two_seeds_are_kept_side_by_side(shelf: Shelf) -> None:
    following = "sha256:00ff00112233"
    place = shelf.image(IMAGE, following)
    place.write_bytes(CONTENT)
    shelf.keep(place, archive(seed="voice-2"))
    assert shelf.find(IMAGE, IDENTITY) == archive()


def test_a_file_that_is_not_there_is_not_whole(tmp_path: Path) -> None:
    assert not is_whole(tmp_path / "nothing", ModelFile("nothing", 0, "00"))
