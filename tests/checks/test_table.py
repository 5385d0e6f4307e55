import io

import pytest
from rich.console import Console

from checks.report import JsonObject, Report, Result, Verdict
from checks.table import show

SERVICE: JsonObject = {"badge": {"icon": "🟠", "label": "Basic Voice"}, "engine": "basic"}
SPOKEN = Result("speech.maya", Verdict.MET, "2.36 s at 24000 Hz, -19 dBFS, engine basic")
FAILED = Result(
    "speech.warm",
    Verdict.NOT_MET,
    "clipped; Content-Type is application/octet-stream",
    "Look twice.",
)


def _shown(
    *results: Result,
    terminal: bool = False,
    width: int = 100,
    service: JsonObject | None = None,
    with_key: bool = False,
) -> str:
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=width, color_system=None)
    show(Report("http://host:8000", results, service), console, with_key=with_key)
    return text.getvalue()


@pytest.mark.parametrize(("terminal", "width"), [(True, 120), (True, 75), (True, 40), (False, 20)])
def test_no_word_is_broken_or_left_out(terminal: bool, width: int) -> None:
    words = _shown(SPOKEN, FAILED, terminal=terminal, width=width, service=SERVICE).split()
    for result in (SPOKEN, FAILED):
        for word in f"{result.name} {result.detail} {result.next_step}".split():
            assert word in words


def test_elsewhere_than_on_a_terminal_a_check_is_one_line_without_colour() -> None:
    lines = _shown(SPOKEN, FAILED, width=20).splitlines()
    assert lines[0] == "met      speech.maya  2.36 s at 24000 Hz, -19 dBFS, engine basic"
    assert lines[1].startswith("not met  speech.warm  clipped")


def test_the_summary_names_badge_engine_and_counts() -> None:
    summary = _shown(SPOKEN, FAILED, service=SERVICE).splitlines()[2]
    assert summary == (
        "🟠 Basic Voice · engine basic · http://host:8000 · checks: 1 not met, 1 met"
    )


def test_the_same_next_step_is_said_once() -> None:
    again = Result("speech.mystic", Verdict.NOT_MET, "clipped too", "Look twice.")
    assert _shown(FAILED, again).count("Look twice.") == 1


def test_a_voice_that_spoke_can_be_tried_by_copying_one_line() -> None:
    last = _shown(SPOKEN, terminal=True, width=40).splitlines()[-1]
    assert last == (
        "Try it: curl -o voice.wav -H 'Content-Type: application/json' "
        """-d '{"text":"Hello from Maya"}' http://host:8000/api/v1/generate"""
    )


def test_a_key_is_tried_through_a_pipe_and_not_as_an_argument() -> None:
    last = _shown(SPOKEN, with_key=True).splitlines()[-1]
    assert """"$SESAME_SERVER_KEY" | curl -o voice.wav -H @- """ in last


def test_nothing_to_try_is_offered_when_nothing_spoke() -> None:
    assert "Try it" not in _shown(FAILED)
