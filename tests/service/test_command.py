import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from service import __version__
from service.settings import PREFIX
from tests.service.held import TIMEOUT

pytestmark = pytest.mark.program


def environment(more: Mapping[str, str]) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return {**clean, "SESAME_MODEL": "", **more}


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "service", *arguments],
        env=environment(variables),
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )


@contextmanager
def running(
    **variables: str,
) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """Run the command until it listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "service"],
        env=environment({"SESAME_PORT": str(port), **variables}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if "Uvicorn running" in line:
                break
        url = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=url, timeout=TIMEOUT, trust_env=False) as client:
            yield process, client
    finally:
        process.kill()
        process.communicate()


def test_the_version_is_told() -> None:
    assert run("--version").stdout == f"{__version__}\n"


def test_checking_the_settings_says_what_would_be_done() -> None:
    checked = run("--check-settings", SESAME_SERVER_KEY="hunter2", SESAME_PORT="8123")
    assert checked.returncode == 0
    assert "rungs:      basic\n" in checked.stdout
    assert "bind:       127.0.0.1:8123\n" in checked.stdout
    assert "server key: required\n" in checked.stdout
    assert "voices:     maya, mystic, neutral, warm\n" in checked.stdout
    assert "hunter2" not in checked.stdout + checked.stderr


def test_checking_the_settings_says_why_a_rung_would_be_off(tmp_path: Path) -> None:
    checked = run("--check-settings", SESAME_MODEL="sesame/csm-1b", HF_HOME=str(tmp_path))
    assert checked.returncode == 0
    assert (
        f"rungs:      csm (off: sesame/csm-1b is not in the Hugging Face cache at {tmp_path};"
        in (checked.stdout)
    )


def test_the_light_image_needs_none_of_what_the_model_needs(tmp_path: Path) -> None:
    blocked = "torch", "onnx", "onnxruntime", "tokenizers", "safetensors"
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n" + "".join(f"sys.modules[{name!r}] = None\n" for name in blocked)
    )
    model = tmp_path / "csm"
    model.mkdir()
    checked = run("--check-settings", PYTHONPATH=str(tmp_path), SESAME_MODEL=str(model))
    assert checked.returncode == 0, checked.stderr
    assert "csm (off: this image has no PyTorch" in checked.stdout


def test_an_operators_voice_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    (tmp_path / "hal").mkdir()
    checked = run("--check-settings", SESAME_VOICES_DIR=str(tmp_path))
    assert checked.returncode == 2
    assert f"{tmp_path}/hal/voice.toml is missing" in checked.stderr


def test_the_guides_option_3_is_explained_word_for_word() -> None:
    refused = run(
        SESAME_ENABLED="true",
        SESAME_MODE="online",
        SESAME_URL="https://api-inference.huggingface.co/models/facebook/blenderbot-1B-distill",
        SESAME_API_KEY="hf_your_token_here",
        SESAME_FALLBACK_ENABLED="true",
    )
    assert refused.returncode == 2
    assert "api-inference.huggingface.co is retired" in refused.stderr
    assert "blenderbot-1B-distill is a chat model" in refused.stderr
    assert "set HF_TOKEN to the token" in refused.stderr
    assert "hf_your_token_here" not in refused.stderr


def test_the_plan_says_who_may_receive_text_and_what_cannot_work() -> None:
    private = run("--check-settings")
    assert "text goes:  nowhere: it stays here" in private.stdout
    doubtful = run("--check-settings", SESAME_FALLBACK_ENABLED="true")
    assert "warning:    SESAME_FALLBACK_ENABLED=true and no credential is given" in doubtful.stdout


@pytest.mark.parametrize("arguments", [[], ["--check-settings"]])
def test_settings_that_cannot_be_served_end_with_two_and_no_traceback(arguments: list[str]) -> None:
    refused = run(*arguments, SESAME_MODE="online")
    assert refused.returncode == 2
    assert "SESAME_MODE=online without SESAME_URL" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_the_command_serves() -> None:
    with running() as (_, client):
        assert client.get("/health").json()["status"] == "degraded"


def test_without_espeak_it_serves_and_says_what_is_missing() -> None:
    with running(PATH="/nonexistent") as (_, client):
        answer = client.get("/health")
    assert answer.status_code == 503
    assert "apt-get install espeak-ng" in answer.json()["engines"][0]["reason"]
