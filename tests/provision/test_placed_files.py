"""What a host says of a model that was placed on it, asked with real files."""

import hashlib
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from provision.facts import STAMP, STATE_OF_FILE, PlacedFiles

CLIP = "prompts/one clip.wav"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two files, of which the stamp knows both."""
    folder = tmp_path / "0123456789ab"
    (folder / "prompts").mkdir(parents=True)
    (folder / "config.json").write_text("{}", encoding="utf-8")
    (folder / CLIP).write_bytes(b"RIFF")
    lines = [f"{digest(folder / name)} {state(folder / name)} {name}" for name in names(folder)]
    (folder / STAMP).write_text("\n".join(lines), encoding="utf-8")
    return folder


def names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def state(path: Path) -> str:
    command = f"{STATE_OF_FILE} '{path}'"
    return subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, check=True
    ).stdout.strip()


def placed(folder: Path) -> dict[str, dict[str, Any]]:
    fact = PlacedFiles()
    command = fact.command(str(folder), ["config.json", CLIP, "tokenizer.json"])
    said = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout
    return fact.process(said.splitlines())


def test_files_that_are_as_the_stamp_says_are_not_read_again(folder: Path) -> None:
    assert placed(folder) == {
        name: {"sha256": digest(folder / name), "stamped": True} for name in ("config.json", CLIP)
    }


def test_a_changed_file_is_read(folder: Path) -> None:
    (folder / CLIP).write_bytes(b"RIFX")
    assert placed(folder)[CLIP] == {"sha256": digest(folder / CLIP), "stamped": False}


def test_a_file_that_was_touched_is_read(folder: Path) -> None:
    os.utime(folder / "config.json", (0, 0))
    assert placed(folder)["config.json"]["stamped"] is False


def test_without_a_stamp_every_file_is_read(folder: Path) -> None:
    (folder / STAMP).unlink()
    assert {found["stamped"] for found in placed(folder).values()} == {False}


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert placed(tmp_path / "none") == {}
