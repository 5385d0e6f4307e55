import socket
import subprocess
import sys

import httpx
import pytest

from service.app import create_app
from service.probe import main
from service.settings import ServiceSettings
from tests.service.serving import serving


def test_a_voice_that_speaks_is_well(voice: httpx.Client) -> None:
    assert main([f"{voice.base_url}/health"]) == 0


def test_a_voice_that_is_offline_is_not_well(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(create_app(ServiceSettings(enabled=False))) as client:
        assert main([f"{client.base_url}/health"]) == 1
    assert capsys.readouterr().err.endswith("/health: HTTP 503\n")


def test_nobody_listening_is_not_well(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert main([f"http://127.0.0.1:{port}/health"]) == 1
    assert "ConnectionRefusedError" in capsys.readouterr().err


def test_a_listener_that_never_answers_is_not_well(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.probe.TIMEOUT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert main([f"http://127.0.0.1:{server.getsockname()[1]}/health"]) == 1
    assert "TimeoutError" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [[], ["one", "two"], ["localhost:8000"], ["file:///etc"], ["http://x:y/"]]
)
def test_what_cannot_be_asked_is_not_well(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_it_runs_on_the_standard_library_alone(voice: httpx.Client) -> None:
    script = (
        "import sys; from service.probe import main; assert main(sys.argv[1:]) == 0;"
        "assert not {'fastapi', 'pydantic', 'numpy', 'av'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script, f"{voice.base_url}/health"], check=True)
