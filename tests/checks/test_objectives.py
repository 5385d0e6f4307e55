from pathlib import Path

import pytest

from checks.objectives import NAMES, ObjectiveError, parse, read


def test_there_is_an_objective_for_every_figure_and_percentile() -> None:
    assert NAMES == (
        "first_byte_p50_ms",
        "first_byte_p95_ms",
        "first_audio_p50_ms",
        "first_audio_p95_ms",
        "total_p50_ms",
        "total_p95_ms",
        "real_time_factor_p50",
        "real_time_factor_p95",
    )


def test_of_an_objective_that_is_given_twice_the_last_counts() -> None:
    words = ["total_p95_ms=900", "real_time_factor_p50=0.5", "total_p95_ms=800"]
    assert parse(words) == {"total_p95_ms": 800, "real_time_factor_p50": 0.5}


def test_objectives_are_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "objectives.toml"
    path.write_text("first_audio_p95_ms = 400\nreal_time_factor_p95 = 0.9\n")
    assert read(path) == {"first_audio_p95_ms": 400, "real_time_factor_p95": 0.9}


@pytest.mark.parametrize(
    "word", ["total_p95_ms", "p95=1", "total_p95_ms=", "total_p95_ms=0", "total_p95_ms=nan"]
)
def test_what_is_no_objective_is_refused(word: str) -> None:
    with pytest.raises(ObjectiveError):
        parse([word])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"first_audio_p95_ms 400", "no TOML file"),
        (b"\xff", "no TOML file"),
        (b"[first_audio]\np95_ms = 400", "there is no objective 'first_audio'"),
        (b"total_p50_ms = true", "a number above 0: True"),
        (b'total_p50_ms = "400"', "a number above 0: '400'"),
    ],
)
def test_a_file_of_another_form_is_refused_with_the_reason(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    path = tmp_path / "objectives.toml"
    path.write_bytes(content)
    with pytest.raises(ObjectiveError, match=reason):
        read(path)
