"""Where the model's files are looked for, and what is said when they are not there."""

from pathlib import Path

import pytest

from service.engines.snapshot import find_snapshot
from service.errors import EngineError

COMMIT = "c0ffee" * 6 + "c0ff"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A Hugging Face cache with one snapshot, as huggingface_hub lays it out."""
    repository = tmp_path / "hub" / "models--sesame--csm-1b"
    (repository / "snapshots" / COMMIT).mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    return tmp_path


def test_a_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    snapshot = find_snapshot(str(tmp_path), "main", Path("/nowhere"))
    assert (snapshot.folder, snapshot.name) == (tmp_path, tmp_path.name)


@pytest.mark.parametrize("revision", ["main", COMMIT])
def test_a_repository_is_found_in_the_cache_by_name_or_commit(cache: Path, revision: str) -> None:
    snapshot = find_snapshot("sesame/csm-1b", revision, cache)
    assert snapshot.name == f"sesame/csm-1b@{COMMIT}"
    assert snapshot.folder.name == COMMIT


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"SESAME_MODEL=.*gone is no folder"):
        find_snapshot(str(tmp_path / "gone"), "main", tmp_path)


def test_an_empty_cache_says_how_to_fill_it(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="is not in the Hugging Face cache") as error:
        find_snapshot("sesame/csm-1b", "main", tmp_path)
    assert "https://huggingface.co/sesame/csm-1b" in error.value.hint
    assert "HF_TOKEN" in error.value.hint


def test_another_revision_is_named(cache: Path) -> None:
    with pytest.raises(EngineError, match=f"no revision v2 .* there is {COMMIT}"):
        find_snapshot("sesame/csm-1b", "v2", cache)


def test_a_refused_or_broken_download_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "hub" / "models--sesame--csm-1b" / "blobs").mkdir(parents=True)
    with pytest.raises(EngineError, match="refused or broken off"):
        find_snapshot("sesame/csm-1b", "main", tmp_path)
