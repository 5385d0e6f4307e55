import os
from pathlib import Path

import pytest

from checks.output import OutputError, replacement


def test_a_file_is_replaced_as_a_whole_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")
    with replacement(path) as opened:
        assert path.read_text() == "old"
        opened.write("new 🟢")
    assert path.read_text(encoding="utf-8") == "new 🟢"
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_left_when_nothing_is_written(tmp_path: Path) -> None:
    with replacement(tmp_path / "report.json"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link = tmp_path / "report.json"
    link.symlink_to(tmp_path / "there" / "real.json")
    with replacement(link) as opened:
        opened.write("new")
    assert link.is_symlink()
    assert link.read_text() == "new"


def test_a_new_file_is_as_readable_as_the_user_wants_it(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with replacement(tmp_path / "report.json") as opened:
            opened.write("new")
    finally:
        os.umask(before)
    assert (tmp_path / "report.json").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("name", [".", "missing/report.json", "file/report.json", "/dev/null"])
def test_what_cannot_be_written_is_refused_before_and_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write"), replacement(tmp_path / name):
        pass
