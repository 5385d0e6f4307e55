import logging
import os
import shutil
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from service.logs import LOG_CONFIG, OneLine, fields, request_id
from tests.service.test_command import running

pytestmark = pytest.mark.program


def record(message: str, *, defect: bool = False) -> logging.LogRecord:
    error = sys.exc_info() if defect else None
    return logging.LogRecord("service.app", logging.INFO, "app.py", 1, message, None, error)


def test_a_line_tells_when_how_bad_where_and_for_which_request() -> None:
    request_id.set("7f")
    line = OneLine().format(record("spoken"))
    assert line.endswith("Z INFO service.app id=7f spoken")


def test_a_traceback_tells_type_and_places_but_not_the_words() -> None:
    said = "a secret of mine"
    try:
        int(said)
    except ValueError:
        text = OneLine().format(record("a defect", defect=True))
    assert text.endswith("ValueError")
    assert "test_logs.py" in text
    assert said not in text


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("basic", "name=basic"),
        (7, "name=7"),
        (1.23456, "name=1.235"),
        ("", 'name=""'),
        ("two words", 'name="two words"'),
        ("/a\nstatus=200", 'name="/a\\nstatus=200"'),
        ("é", 'name="\\u00e9"'),
    ],
)
def test_no_value_can_break_a_line_apart(value: object, written: str) -> None:
    assert fields({"name": value}) == written


@pytest.mark.parametrize("client", ["httpx", "httpx2", "huggingface_hub"])
def test_the_urls_that_clients_ask_for_are_not_logged(client: str) -> None:
    assert LOG_CONFIG["loggers"][client] == {"level": "WARNING"}


TEXT = "the canary sings at dawn"
KEY, WRONG_KEY, CLOUD_KEY = "canary-key", "canary-wrong-key", "sk_" + "ca7a" * 12

# It tells what it was asked to say when it fails: before it has spoken, and while it speaks.
TALKATIVE = """#!/bin/sh
text=$(cat)
case "$text" in
*fails*) echo "cannot say $text" >&2; exit 1 ;;
*breaks*) echo "$text" | {real} "$@"; echo "cannot say $text" >&2; exit 1 ;;
*) echo "$text" | {real} "$@" ;;
esac
"""


@dataclass(frozen=True)
class Asked:
    """A request of one dialect.

    + text: the field that holds the text
    + more: other fields
    """

    path: str
    text: str = "text"
    more: tuple[tuple[str, Any], ...] = ()

    def body(self, text: str) -> dict[str, Any]:
        return {self.text: text, **dict(self.more)}


DIALECTS = {
    "whole": Asked("/api/v1/generate"),
    "json": Asked("/api/v1/generate", more=(("format", "base64"),)),
    "array": Asked("/api/v1/generate", "inputs"),
    "stream": Asked("/api/v1/generate", more=(("stream", True),)),
    "generate": Asked("/generate"),
    "tts": Asked("/tts"),
    "openai": Asked("/v1/audio/speech", "input"),
    "openai-events": Asked("/v1/audio/speech", "input", (("stream_format", "sse"),)),
    "elevenlabs": Asked("/v1/text-to-speech/maya"),
    "elevenlabs-stream": Asked("/v1/text-to-speech/maya/stream"),
}


@dataclass(frozen=True)
class Told:
    """What the process wrote.

    + lines: of each request, by its id: those that tell how it ended
    + statuses: as the client saw them; None: the answer broke off
    """

    everything: str
    lines: dict[str, list[str]]
    statuses: dict[str, int | None]


class Caller:
    """Asks under an id, and notes what came."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self.statuses: dict[str, int | None] = {}

    def ask(self, id_: str, path: str, key: str = KEY, **how: Any) -> None:
        headers = {
            "X-Request-Id": id_,
            "xi-api-key": key,
            "Content-Type": "application/json",
            "Cache-Control": "no-cache",
        }
        try:
            answer = self._client.post(path, headers=headers, **how)
            self.statuses[id_] = answer.status_code
        except httpx.RemoteProtocolError:
            self.statuses[id_] = None


def ask_everything(caller: Caller) -> None:
    """Have every dialect speak, and refuse, and fail before and while it speaks."""
    for name, asked in DIALECTS.items():
        caller.ask(f"{name}.spoken", asked.path, json=asked.body(TEXT))
        caller.ask(f"{name}.key", asked.path, WRONG_KEY, json=asked.body(TEXT))
        caller.ask(f"{name}.long", asked.path, json=asked.body(f"{TEXT} " * 250))
        caller.ask(f"{name}.type", asked.path, json={asked.text: [TEXT]})
        caller.ask(f"{name}.name", asked.path, json={TEXT: TEXT})
        caller.ask(f"{name}.broken", asked.path, content=f'{{"{asked.text}": "{TEXT}')
        caller.ask(f"{name}.fails", asked.path, json=asked.body(f"{TEXT}, and fails"))
        # What speaks in between keeps the rung's breaker closed.
        caller.ask(f"{name}.spoken-again", asked.path, json=asked.body(TEXT))
        caller.ask(f"{name}.breaks", asked.path, json=asked.body(f"{TEXT}, and breaks"))
    caller.ask("shape.shaped", "/ci/shape", json={"text": TEXT})
    caller.ask("shape.key", "/ci/shape", WRONG_KEY, json={"text": TEXT})


def values(line: str) -> dict[str, str]:
    """Read the `name=value` pairs of a line."""
    return dict(word.split("=", 1) for word in line.split() if "=" in word)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """Ask everything of the real command; give all that it wrote."""
    folder = tmp_path_factory.mktemp("talkative")
    talkative = folder / "espeak-ng"
    talkative.write_text(TALKATIVE.format(real=shutil.which("espeak-ng")))
    talkative.chmod(0o755)
    settings = {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "SESAME_SERVER_KEY": KEY,
        "SESAME_FALLBACK_ENABLED": "false",
        "ELEVENLABS_API_KEY": CLOUD_KEY,
    }
    with running(**settings) as (process, client), ThreadPoolExecutor() as threads:
        # A pipe that nobody reads would stop the service.
        written = threads.submit(process.communicate, timeout=60)
        caller = Caller(client)
        ask_everything(caller)
        process.send_signal(signal.SIGTERM)
        out, log = written.result()
    assert out == ""
    lines: dict[str, list[str]] = {id_: [] for id_ in caller.statuses}
    for line in log.splitlines():
        if "path" in values(line):
            lines[values(line)["id"]].append(line)
    return Told(log, lines, caller.statuses)


def test_the_log_never_tells_what_was_to_be_said(told: Told) -> None:
    assert "canary sings" not in told.everything
    assert "dawn" not in told.everything


@pytest.mark.parametrize("key", [KEY, WRONG_KEY, CLOUD_KEY])
def test_the_log_never_tells_a_key(told: Told, key: str) -> None:
    assert key not in told.everything


def test_each_request_has_one_line(told: Told) -> None:
    assert {id_: len(lines) for id_, lines in told.lines.items()} == dict.fromkeys(told.statuses, 1)


def test_the_line_tells_the_status_that_the_client_saw(told: Told) -> None:
    for id_, status in told.statuses.items():
        assert f" status={status or 200} " in told.lines[id_][0], id_


def test_the_line_of_what_was_spoken_tells_engine_lengths_and_times(told: Told) -> None:
    wanted = {"method", "path", "status", "voice", "characters", "speed"}
    wanted |= {"engine", "attempts", "queue_ms", "first_audio_ms", "audio_s", "ms"}
    spoken = {id_: lines[0] for id_, lines in told.lines.items() if ".spoken" in id_}
    for id_, line in spoken.items():
        streamed = "stream" in id_ or "openai" in id_
        whole_only = set() if streamed else {"real_time_factor"}
        assert set(values(line)) == {*wanted, *whole_only, "id"}
        assert values(line)["characters"] == str(len(TEXT))
        assert values(line)["engine"] == "basic"


def test_every_dialect_spoke_and_failed(told: Told) -> None:
    ends: dict[str, set[int | None]]
    ends = {"spoken": {200}, "spoken-again": {200}, "key": {401}, "long": {422}, "type": {422}}
    ends |= {"name": {422}, "broken": {400}, "fails": {503}, "breaks": {503, 200, None}}
    for id_, status in told.statuses.items():
        assert status in ends.get(id_.rpartition(".")[2], {200}), id_
