import logging
import socket

import httpx
import pytest

from service.app import create_app
from service.engines.basic import BasicVoice
from service.settings import ServiceSettings
from service.voices import Personas
from tests.service.held import TIMEOUT, HeldEspeak, is_running, wait_for_exit
from tests.service.rungs import Rung, tone
from tests.service.serving import serving

REQUEST = (
    b"POST /api/v1/generate HTTP/1.1\r\nHost: localhost\r\n"
    b'Content-Type: application/json\r\nContent-Length: 16\r\n\r\n{"text":"Hello"}'
)


def connect(client: httpx.Client) -> socket.socket:
    return socket.create_connection((client.base_url.host, client.base_url.port), TIMEOUT)


def test_espeak_is_gone_when_the_client_leaves(personas: Personas, held_espeak: HeldEspeak) -> None:
    engine = BasicVoice(personas.values(), str(held_espeak.command))
    with serving(create_app(ServiceSettings(), [engine])) as client:
        held_espeak.hold()
        with connect(client) as leaving:
            leaving.sendall(REQUEST)
            pid = held_espeak.started()
            assert is_running(pid)
        wait_for_exit(pid)
        held_espeak.let_go()
        assert client.post("/api/v1/generate", json={"text": "Hello"}).status_code == 200
    assert not is_running(pid)


@pytest.mark.parametrize("rung", [Rung(hangs=True), Rung(tone(), hangs=True)])
def test_any_engine_is_stopped_when_the_client_leaves(
    rung: Rung, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(ServiceSettings(deadline_seconds=600, stall_seconds=600), [rung])
    with caplog.at_level(logging.INFO), serving(app) as client:
        with connect(client) as leaving:
            leaving.sendall(REQUEST)
            assert rung.speaking.wait(TIMEOUT)
        assert rung.ended.wait(TIMEOUT)
    assert "status=499" in caplog.text


def test_the_others_are_served_on_when_one_leaves() -> None:
    rung = Rung(tone(), hangs=True, permits=1)
    app = create_app(ServiceSettings(stall_seconds=0.1), [rung])
    with serving(app) as client:
        with connect(client) as leaving:
            leaving.sendall(REQUEST)
            assert rung.speaking.wait(TIMEOUT)
        answer = client.post("/api/v1/generate", json={"text": "Hello"})
    assert answer.json()["code"] == "speech_cut_off"
    assert rung.asked == 2
