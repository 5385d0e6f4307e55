"""A large file travels in parts, goes on where it was cut, and says how far it is."""

import io
from pathlib import Path

import pytest

from provision import _transfer
from provision._transfer import MIB, FilePart, Progress, parts


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "shard"
    path.write_bytes(bytes(range(100)))
    return path


def test_the_parts_of_a_file_are_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_transfer, "PART_BYTES", 33)
    pieces = list(parts(file, 100))
    assert [piece.length for piece in pieces] == [33, 33, 33, 1]
    assert b"".join(io.BufferedReader(piece).read() for piece in pieces) == file.read_bytes()


def test_a_transfer_that_was_cut_goes_on_at_its_byte(file: Path) -> None:
    (rest,) = parts(file, 100, start=41)
    assert io.BufferedReader(rest).read() == file.read_bytes()[41:]


def test_a_file_that_is_there_has_no_parts_left(file: Path) -> None:
    assert list(parts(file, 100, start=100)) == []


def test_a_part_can_be_sent_again_and_ends_where_it_ends(file: Path) -> None:
    part = io.BufferedReader(FilePart(file, 10, 20))
    first = part.read()
    part.seek(0)
    assert part.read() == first == file.read_bytes()[10:30]
    assert part.seek(0, io.SEEK_END) == 20
    assert part.read(1) == b""


def test_a_file_is_open_only_while_it_is_sent(file: Path) -> None:
    part = FilePart(file, 0, 100)
    io.BufferedReader(part).read()
    file.unlink()
    part.seek(0)
    with pytest.raises(FileNotFoundError):
        part.read(1)


def test_progress_is_told_every_few_seconds_with_what_is_left() -> None:
    said: list[str] = []
    now = iter([0.0, 1.0, 6.0, 8.0])
    progress = Progress("shard", 1000 * MIB, 100 * MIB, said.append, lambda: next(now))
    for done in (150, 400, 500):
        progress.reach(done * MIB)
    assert said == [
        "shard: goes on after 100 of 1,000 MiB",
        "shard: 400 of 1,000 MiB, 50 MiB/s, 12 s left",
    ]
