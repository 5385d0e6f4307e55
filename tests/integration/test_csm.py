"""A bare host gets a model from the deploying machine and speaks with it. The order matters."""

import json
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from provision._checkpoint import read_model
from provision._model import Hub, Model
from provision._transfer import PART_BYTES
from service.csm import FRAME_SECONDS, frame_budget, random_checkpoint
from tests.integration.deploying import deploy, start_deploy
from tests.integration.machines import Machine, machine
from tests.service.model_hub import TOKEN, ModelHub, cut, serving

pytestmark = pytest.mark.integration

URL = "http://localhost:8000/api/v1/generate"
TEXT = "Hello from Maya."
LARGE = "prompts/large.wav"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("csm")


@pytest.fixture(scope="module")
def checkpoint(folder: Path) -> Path:
    """A small random model: it says noise, in files like the real ones."""
    random_checkpoint.write(folder / "tiny", random_checkpoint.SIZES["tiny"], clips=0.25)
    # Nobody speaks with it; it is large enough to be cut on its way.
    bits = random.Random(5)  # noqa: S311 (noise)
    with (folder / "tiny" / LARGE).open("wb") as file:
        file.writelines(bits.randbytes(2**20) for _ in range(4 * PART_BYTES // 2**20))
    return folder / "tiny"


@pytest.fixture(scope="module")
def host(key: Path) -> Iterator[Machine]:
    with machine("trixie", key) as host:
        yield host


def health(host: Machine) -> dict[str, object]:
    answer: dict[str, object] = json.loads(host.run("curl -sS http://localhost:8000/health"))
    return answer


def said(text: str, **fields: object) -> str:
    """Give curl's arguments of a request."""
    body = json.dumps({"text": text, **fields})
    return f"-sS -X POST {URL} -H 'Content-Type: application/json' -d '{body}'"


def model_of(checkpoint: Path) -> Model:
    model = read_model(checkpoint)
    assert isinstance(model, Model)
    return model


def test_a_deploy_is_killed_while_the_model_travels(
    host: Machine, folder: Path, checkpoint: Path
) -> None:
    arrived = (
        f"find /opt/sesame-csm/models -name 'large.wav.*.half' -size +{PART_BYTES // 1024 - 1}k"
        " 2>/dev/null"
    )
    wanted = {host: {"model_folder": str(checkpoint), "model": "required"}}
    with start_deploy(folder, wanted) as running:
        while not host.run(arrived, check=False):
            assert running.poll() is None, running.communicate()
            time.sleep(0.2)
        running.kill()
    assert "No such file" in host.run("ls /opt/sesame-csm/service.env", check=False)


def test_the_next_deploy_goes_on_there_and_the_model_speaks(
    host: Machine, folder: Path, checkpoint: Path
) -> None:
    outcome = deploy(folder, {host: {"model_folder": str(checkpoint), "model": "required"}})
    assert outcome.status == 0, outcome.said
    assert f"{LARGE}: goes on after " in outcome.said
    assert "🟢 Sesame Local" in outcome.said
    found = health(host)
    assert (found["status"], found["model_loaded"], found["engine"]) == ("healthy", True, "csm")
    assert str(found["device"]).startswith("cpu")


def test_the_second_run_changes_nothing(host: Machine, folder: Path, checkpoint: Path) -> None:
    outcome = deploy(folder, {host: {"model_folder": str(checkpoint), "model": "required"}})
    assert outcome.status == 0, outcome.said
    assert outcome.changes == 0, outcome.said


def test_the_audio_obeys_the_budget_of_its_text(host: Machine) -> None:
    host.run(f"curl {said(TEXT)} -D /tmp/headers -o /tmp/hello.wav")
    assert "x-speech-engine: csm" in host.run("cat /tmp/headers").lower()
    seconds = (int(host.run("stat -c %s /tmp/hello.wav")) - 44) / 48_000
    assert 0.2 < seconds <= frame_budget(TEXT) * FRAME_SECONDS


def test_the_first_bytes_of_a_long_text_come_long_before_the_last(host: Machine) -> None:
    times = host.run(
        f"curl {said(TEXT * 40, stream=True)} -N -o /dev/null"
        " -w '%{time_starttransfer} %{time_total}'"
    )
    first, last = map(float, times.split())
    # Forty sentences against one: no machine is so busy that this says nothing.
    assert first < last / 4


def test_a_client_that_is_killed_in_the_middle_frees_its_slot(host: Machine) -> None:
    log = "docker logs sesame-csm-offline 2>&1 | grep -c 'a listener left; slots busy: 0'"
    before = int(host.run(log, check=False) or 0)
    host.run(f"timeout -s KILL 1 curl {said(TEXT * 40, stream=True)} -N -o /dev/null", check=False)
    for _ in range(50):
        if int(host.run(log, check=False) or 0) > before:
            break
        time.sleep(0.1)
    assert int(host.run(log)) == before + 1


def test_the_model_cannot_be_changed_from_inside(host: Machine) -> None:
    refused = host.run(
        "docker exec -u 0 sesame-csm-offline touch /models/csm/config.json 2>&1", check=False
    )
    assert "Read-only file system" in refused


def test_a_flipped_bit_is_found_and_mended(host: Machine, folder: Path, checkpoint: Path) -> None:
    model = model_of(checkpoint)
    shard = next(file for file in model.files if file.path.endswith(".safetensors"))
    placed = f"/opt/sesame-csm/models/{model.digest}/{shard.path}"
    host.run(f"printf X | dd of={placed} bs=1 seek={shard.size // 2} conv=notrunc 2>&1")
    outcome = deploy(folder, {host: {"model_folder": str(checkpoint), "model": "required"}})
    assert outcome.status == 0, outcome.said
    assert host.run(f"sha256sum {placed}").split()[0] == shard.sha256
    assert health(host)["engine"] == "csm"


@pytest.fixture(scope="module")
def hub(host: Machine, checkpoint: Path) -> Iterator[ModelHub]:
    """A gated hub that holds the same model, where the host can reach it."""
    files = {
        file.path: (checkpoint / file.path).read_bytes() for file in model_of(checkpoint).files
    }
    gate = {None: (401, "GatedRepo", "restricted"), "hf_wrong": (401, "", "Invalid credentials")}
    gateway = host.run("ip -4 route show default").split()[2]
    with serving(ModelHub(files=files, gate=gate), gateway) as hub:
        yield hub


def from_hub(hub: ModelHub, folder: Path, checkpoint: Path, token: str) -> dict[str, object]:
    """Give the host data of a deploy that takes the model from the hub."""
    manifest = folder / "manifest.json"
    source = Hub(hub.url, hub.repository, hub.commit)
    manifest.write_text(source.manifest_of(model_of(checkpoint)), encoding="utf-8")
    return {
        "model": "required",
        "model_mirror": hub.url,
        "model_manifest": str(manifest),
        "model_token": token,
    }


def test_a_token_that_the_hub_does_not_know_is_refused_before_anything_changes(
    host: Machine, folder: Path, checkpoint: Path, hub: ModelHub
) -> None:
    host.run("rm -rf /opt/sesame-csm/models/*")
    outcome = deploy(folder, {host: from_hub(hub, folder, checkpoint, "hf_wrong")})
    assert outcome.status == 1
    assert "the token is wrong or has expired" in outcome.said
    assert health(host)["engine"] == "csm"


def test_the_same_model_comes_from_a_hub_and_goes_on_where_it_was_cut(
    host: Machine, folder: Path, checkpoint: Path, hub: ModelHub
) -> None:
    hub.then(LARGE, cut(hub.files[LARGE], 100 * 2**20, reset=True))
    outcome = deploy(folder, {host: from_hub(hub, folder, checkpoint, TOKEN)})
    assert outcome.status == 0, outcome.said
    assert f"{LARGE}: 256 MiB, " in outcome.said
    assert hub.asked_for(LARGE)[-1].startswith("bytes=")
    assert (health(host)["status"], health(host)["engine"]) == ("healthy", "csm")
    assert TOKEN not in outcome.said + host.run("docker inspect sesame-csm-offline")
    again = deploy(folder, {host: from_hub(hub, folder, checkpoint, TOKEN)})
    assert again.changes == 0, again.said


def test_a_disk_that_filled_up_on_the_way_is_told_of(
    host: Machine, folder: Path, checkpoint: Path
) -> None:
    models = "/opt/sesame-csm/models"
    host.run(f"mount -t tmpfs -o size=1m none {models}")
    try:
        outcome = deploy(folder, {host: {"model_folder": str(checkpoint)}})
    finally:
        host.run(f"umount {models}")
    assert outcome.status == 1
    assert re.search(r"The model needs \d+ MiB in \S+, and 1 MiB are free", outcome.said)
    assert health(host)["engine"] == "csm"


def test_a_model_that_is_none_is_refused_before_anything_changes(
    host: Machine, folder: Path, checkpoint: Path
) -> None:
    for shard in checkpoint.glob("transformers-*.safetensors"):
        shard.write_bytes(shard.read_bytes()[:-1])
    outcome = deploy(folder, {host: {"model_folder": str(checkpoint), "port": 8100}})
    assert outcome.status == 1
    assert "transformers-" in outcome.said
    assert health(host)["engine"] == "csm"
