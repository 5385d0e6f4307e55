"""One host builds, another without any network takes what it has built. The order matters."""

import json
import time
import wave
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from provision._checkpoint import read_model
from provision._model import Model
from provision._transfer import PART_BYTES
from tests.integration.deploying import DEPLOY_TIMEOUT_SECONDS, Outcome, deploy, start_deploy
from tests.integration.machines import Machine
from tests.provision.checkpoints import write_checkpoint

pytestmark = pytest.mark.integration

Fleet = tuple[Machine, Machine]

DOCKER = "docker.io docker-cli iptables docker-compose docker-buildx"
CLOSED = (
    "iptables -I OUTPUT -o eth0 -m conntrack ! --ctstate ESTABLISHED,RELATED -j REJECT",
    "iptables -I FORWARD -o eth0 -j REJECT",
)
"""What comes in by SSH is answered; nothing goes out, of the host or of a container."""

PERSONA = """
description = "Hal: calm, even."

[csm]
clip = "hal.wav"
transcript = "I know that you were planning to disconnect me."
"""

# What a deploy with a model from a hub does once the seed has it, without the hub and the engine.
TAKE_A_MODEL = """
from pathlib import Path
from pyinfra import host
from provision import operations
from provision._checkpoint import read_model
from provision._handing import Shelf
from provision._release import model_home

origin, seed = Path(host.data.model_folder), host.data.seed_host
model = read_model(origin)
home = model_home(model)
if host.name == seed:
    operations.upload_model(name="Place", model=model, origin=origin, folder=home)
taken = operations.take_model(
    name="Take", model=model, seed=None if host.name == seed else seed, folder=home
)
if host.name != seed:
    operations.upload_model(
        name="Place", model=model, origin=Shelf().model(model.digest), folder=home,
        _if=taken.did_succeed,
    )
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("handing")


@pytest.fixture(scope="module")
def voices(folder: Path) -> Path:
    """A folder with one persona, whose clip is noise."""
    home = folder / "voices/hal"
    home.mkdir(parents=True)
    (home / "voice.toml").write_text(PERSONA, encoding="utf-8")
    write_clip(home / "hal.wav", seconds=2)
    return home.parent


def write_clip(path: Path, *, seconds: float) -> None:
    noise = np.random.default_rng(1).normal(0, 3000, int(seconds * 24_000)).astype("<i2")
    with wave.open(str(path), "wb") as clip:
        clip.setnchannels(1)
        clip.setsampwidth(2)
        clip.setframerate(24_000)
        clip.writeframes(noise.tobytes())


def data_of(fleet: Fleet, voices: Path) -> Mapping[Machine, dict[str, object]]:
    seed, _ = fleet
    return {host: {"seed_host": seed.address, "voices_folder": str(voices)} for host in fleet}


def run(fleet: Fleet, folder: Path, voices: Path, *options: str) -> Outcome:
    return deploy(folder, data_of(fleet, voices), *options)


def layers(host: Machine) -> str:
    image = host.run("docker inspect --format '{{.Config.Image}}' sesame-csm-offline").strip()
    return host.run(f"docker image inspect --format '{{{{json .RootFS.Layers}}}}' {image}")


def offered(host: Machine) -> list[str]:
    answer: dict[str, list[str]] = json.loads(host.run("curl -sS http://localhost:8000/health"))
    return answer["voices"]


def kill_when(fleet: Fleet, folder: Path, voices: Path, arrived_bytes: Callable[[], int]) -> None:
    """Start a deploy and kill it as soon as one part of an image has arrived somewhere."""
    with start_deploy(folder, data_of(fleet, voices)) as running:
        deadline = time.monotonic() + DEPLOY_TIMEOUT_SECONDS
        while running.poll() is None and arrived_bytes() < PART_BYTES:
            assert time.monotonic() < deadline, "no image travelled"
            time.sleep(0.05)
        assert running.poll() is None, running.communicate()[1]
        running.kill()
        running.communicate()


def test_a_host_is_refused_while_its_seed_has_nothing_and_is_left_out(
    fleet: Fleet, folder: Path, voices: Path
) -> None:
    seed, taker = fleet
    outcome = run(fleet, folder, voices, "--limit", taker.address)
    assert outcome.status == 1
    assert f"seed_host={seed.address} has no image of this version yet" in outcome.said
    assert "docker" not in taker.run("ls /usr/bin /opt")


def test_a_personas_fault_is_told_before_anything_changes(
    fleet: Fleet, folder: Path, voices: Path
) -> None:
    seed, _ = fleet
    clip = voices / "hal/hal.wav"
    clip.rename(folder / "hal.wav")
    outcome = run(fleet, folder, voices)
    (folder / "hal.wav").rename(clip)
    assert outcome.status == 1
    assert "csm.clip='hal.wav', and there is no such file" in outcome.said
    assert "docker" not in seed.run("ls /usr/bin /opt")


def test_a_run_that_is_killed_while_the_image_is_fetched_leaves_nothing_at_the_other_host(
    fleet: Fleet, folder: Path, voices: Path
) -> None:
    _, taker = fleet
    taker.run(f"apt-get update -q && apt-get install -q -y --no-install-recommends {DOCKER}")
    for rule in CLOSED:
        taker.run(rule)
    images = folder / ".cache/sesame-csm/images"
    kill_when(
        fleet, folder, voices, lambda: sum(half.stat().st_size for half in images.glob("*.half"))
    )
    assert "sesame-csm" not in taker.run("docker images; ls /opt")


def test_a_run_that_is_killed_while_the_image_is_sent_leaves_no_half_image(
    fleet: Fleet, folder: Path, voices: Path
) -> None:
    _, taker = fleet
    sent = "cat /opt/sesame-csm/handing/image.tar.gz.*.half 2>/dev/null | wc -c"
    kill_when(fleet, folder, voices, lambda: int(taker.run(sent, check=False)))
    assert taker.run("docker images --quiet") == ""


def test_a_host_without_a_network_goes_on_taking_what_the_seed_has_built(
    fleet: Fleet, folder: Path, voices: Path
) -> None:
    seed, taker = fleet
    outcome = run(fleet, folder, voices)
    assert outcome.status == 0, outcome.said
    assert outcome.said.count("🟠 Basic Voice") == 2
    assert "goes on after" in outcome.said
    assert layers(taker) == layers(seed)
    for host in fleet:
        assert "handing" not in host.run("ls /opt/sesame-csm")


def test_the_operators_own_persona_is_offered_there(fleet: Fleet) -> None:
    _, taker = fleet
    assert "hal" in offered(taker)
    assert "voice.toml" in taker.run("docker exec sesame-csm-offline ls /voices/hal")


def test_the_second_run_changes_nothing(fleet: Fleet, folder: Path, voices: Path) -> None:
    outcome = run(fleet, folder, voices)
    assert outcome.status == 0, outcome.said
    assert outcome.changes == 0, outcome.said


def test_another_clip_starts_the_voice_again_with_it(
    fleet: Fleet, folder: Path, voices: Path
) -> None:
    _, taker = fleet
    before = taker.run("ls /opt/sesame-csm/voices")
    write_clip(voices / "hal/hal.wav", seconds=3)
    outcome = run(fleet, folder, voices, "--limit", taker.address)
    assert outcome.status == 0, outcome.said
    after = taker.run("ls /opt/sesame-csm/voices")
    assert len(after.split()) == 1
    assert before != after
    clip = (voices / "hal/hal.wav").stat().st_size
    size = taker.run("docker exec sesame-csm-offline stat -c %s /voices/hal/hal.wav")
    assert int(size) == clip


def let_in(host: Machine, user: str) -> None:
    """Give a user of the host the right to log in and to become root."""
    host.run(f"useradd --create-home --shell /bin/sh {user}")
    public = host.key.with_suffix(".pub").read_bytes()
    host.write(f"/home/{user}/.ssh/authorized_keys", public, 0o600)
    host.run(f"chown -R {user} /home/{user}/.ssh")
    host.write(f"/etc/sudoers.d/{user}", f"{user} ALL=(ALL) NOPASSWD: ALL\n".encode(), 0o440)


def test_a_host_takes_the_model_of_a_seed_that_is_reached_with_sudo(
    fleet: Fleet, folder: Path
) -> None:
    seed, taker = fleet
    let_in(seed, "maya")
    model = read_model(write_checkpoint(folder / "csm"))
    assert isinstance(model, Model)
    program = folder / "take_a_model.py"
    program.write_text(TAKE_A_MODEL, encoding="utf-8")
    given: dict[str, object] = {"seed_host": seed.address, "model_folder": str(model.origin)}
    data = {seed: {**given, "ssh_user": "maya", "_sudo": True}, taker: given}
    outcome = deploy(folder, data, program=str(program))
    assert outcome.status == 0, outcome.said
    home = f"/opt/sesame-csm/models/{model.digest}"
    taker.write("/srv/manifest", model.manifest.encode())
    taker.run(f"cd {home} && sha256sum --check --strict --quiet /srv/manifest")
    assert deploy(folder, data, program=str(program)).changes == 0
