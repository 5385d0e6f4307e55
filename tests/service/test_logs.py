import logging
import sys

import pytest

from service.logs import LOG_CONFIG, OneLine, fields, request_id


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
