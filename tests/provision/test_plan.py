"""What a deploy would do to each kind of host, without a host: pyinfra's ``@fake`` connector."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from provision._checkpoint import read_model
from provision._docker import Refusal
from provision._image import Variant
from provision._model import CsmEngine, Model, read_manifest
from provision._report import draw_report
from provision._voices import Voices, read_voices
from provision.settings import DeploySettings
from tests.provision.checkpoints import folder_of, write_checkpoint
from tests.provision.hosts import (
    COMPLETE_ENGINE,
    REPORT,
    bare,
    placed,
    row,
    settled,
)
from tests.provision.personas import write_persona
from tests.provision.plan import Plan, run_deploy

PLANS = Path(__file__).parent / "plans"

DEBIAN = row("Debian 13")


@pytest.fixture
def model(tmp_path: Path) -> Model:
    found = read_model(write_checkpoint(tmp_path / "csm"))
    assert isinstance(found, Model)
    return found


NGINX = "0: 00000000:1F40 00000000:0000 0A 0:0 00:0 0 0 0 4242 1 0 100 0 0 10 0"


@pytest.mark.parametrize(
    ("changes", "reason", "remedy"),
    [
        ({"architecture": "riscv64"}, "the processor is riscv64", "x86_64, aarch64"),
        ({"privilege": "none"}, "may not use sudo without a password", "--use-sudo-password"),
        ({"memory_mib": 256}, "256 MiB of memory, 512 MiB are needed", "more memory"),
        (
            {"disk_mib": 900},
            "/ has 900 MiB free, 3000 MiB are needed: 3000 in /var/lib/docker",
            "docker system prune",
        ),
        ({"listeners": (NGINX,)}, "taken by nginx (process 812)", "--data port=8001"),
        ({"engine": ("snap yes",)}, "installed as a snap", "snap remove docker"),
        ({"engine": ("client /usr/bin/docker", "podman yes")}, "Podman", "podman-docker"),
        (
            {"unreachable": ("0 refused", "1 refused", "2 refused")},
            "packages come from the host's mirror",
            "apt-get update shows the fault",
        ),
        ({"unreachable": ("3 refused",)}, "installs Python packages", "/etc/pip.conf"),
        (
            {"engine": ("client /usr/local/bin/docker", "engine 27.0.1")},
            "an engine that no package owns is running, and there is no compose, no buildx",
            "install the missing parts",
        ),
    ],
)
def test_a_host_that_cannot_carry_the_voice_is_refused_before_anything_changes(
    changes: dict[str, object], reason: str, remedy: str
) -> None:
    plan = run_deploy(bare(DEBIAN, **changes))
    said = "\n".join(plan.said)
    assert plan.failed
    assert plan.operations == []
    assert reason in said
    assert remedy in said


@pytest.mark.parametrize(
    ("loaded", "settings", "told"),
    [
        (False, {}, "Maya's own voice needs the CSM-1B model"),
        (False, {"model": "none"}, None),
        (False, {"model_folder": "csm"}, "the model is in place and does not speak"),
        (True, {"model_folder": "csm"}, None),
    ],
)
def test_the_last_table_says_what_would_make_the_voice_better(
    loaded: bool, settings: dict[str, str], told: str | None, model: Model
) -> None:
    report = {**REPORT, "service": {"model_loaded": loaded}}
    engine = CsmEngine(model, "cpu") if "model_folder" in settings else None
    table = draw_report(DeploySettings.read(settings, name="host"), report, engine)
    better = [line for line in table if "Better" in line]
    assert [told in line for line in better] == [True] if told else not better
    assert any(model.digest in line for line in table) is (engine is not None)


def upload(plan: Plan) -> list[str]:
    return dict(plan.operations)["Place the model | Place the model"]


def test_only_missing_and_different_files_of_a_model_travel(model: Model) -> None:
    there = placed(model)
    changed = there[0].replace(model.files[0].sha256, "00").replace("stamped", "read")
    plan = run_deploy(
        bare(DEBIAN, placed=(changed, *there[2:])), model_folder=str(folder_of(model))
    )
    travelled = [command for command in upload(plan) if "FileUploadCommand" in command]
    assert len(travelled) == 2
    assert model.files[0].path in travelled[0]
    assert model.files[1].path in travelled[1]
    assert "docker restart" in upload(plan)[-1]


def test_a_model_that_is_whole_but_was_touched_is_stamped_anew_and_does_not_travel(
    model: Model,
) -> None:
    touched = tuple(line.replace("stamped", "read") for line in placed(model))
    plan = run_deploy(bare(DEBIAN, placed=touched), model_folder=str(folder_of(model)))
    assert not any("FileUploadCommand" in command for command in upload(plan))
    assert any(".verified" in command for command in upload(plan))
    assert not any("docker restart" in command for command in upload(plan))


@pytest.fixture
def _hub_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the deploying machine be told that it may have the model."""
    monkeypatch.setattr("provision.host_model.judge_access", lambda *_asked: None)


HUB_DATA = {"model_token": "hf_a_token_of_nobody", "torch_index": "none"}


@pytest.mark.usefixtures("_hub_gives")
def test_the_first_plan_with_a_model_from_the_hub_is_the_golden_one() -> None:
    plan = run_deploy(bare(DEBIAN), **HUB_DATA)
    golden = PLANS / "trixie-docker-csm-cpu-hub.txt"
    if os.environ.get("UPDATE_PLANS"):
        golden.write_text(plan.text(), encoding="utf-8")
    assert not plan.failed
    assert plan.text() == golden.read_text(encoding="utf-8")
    assert HUB_DATA["model_token"] not in plan.text() + "\n".join(plan.said)


@pytest.mark.usefixtures("_hub_gives")
def test_a_hub_that_does_not_answer_the_host_leaves_the_basic_voice() -> None:
    plan = run_deploy(bare(DEBIAN, hub=("0 Could not resolve",)), **HUB_DATA)
    assert not plan.failed
    assert any("does not answer the host (Could not resolve)" in line for line in plan.said)
    assert plan.text() == (PLANS / "trixie-docker.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("refusal", "silent"), [(Refusal("the token is wrong", "make one"), ()), (None, ("0 refused",))]
)
def test_a_required_model_that_cannot_be_had_is_refused_before_anything_changes(
    refusal: Refusal | None, silent: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("provision.host_model.judge_access", lambda *_asked: refusal)
    plan = run_deploy(bare(DEBIAN, hub=silent), model="required", **HUB_DATA)
    assert plan.failed
    assert plan.operations == []


def test_a_model_from_the_hub_that_is_in_place_asks_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr("provision.host_model.judge_access")
    model = read_manifest()
    assert isinstance(model, Model)
    settings = DeploySettings.read(HUB_DATA, name="host")
    host = settled(
        DEBIAN, settings, "docker", engine=CsmEngine(model, "cpu"), variant=Variant("engine")
    )
    plan = run_deploy(replace(host, hub=("0 Could not resolve",)), **HUB_DATA)
    assert not plan.failed
    assert plan.changes == []


def test_a_transfer_that_was_cut_sends_only_the_rest(model: Model) -> None:
    file = next(file for file in model.files if file.path == "config.json")
    half = f"/opt/sesame-csm/models/{model.digest}/{file.path}.{file.sha256[:12]}.half"
    plan = run_deploy(bare(DEBIAN, halves=(f"5 {half}",)), model_folder=str(folder_of(model)))
    sent = next(line for line in upload(plan) if "config.json," in line)
    assert f"{file.size - 5} bytes from 5 on" in sent


def test_models_of_earlier_deploys_stay_unless_it_is_asked_for(model: Model) -> None:
    host = bare(DEBIAN, models=("0123456789ab", model.digest))
    folder = str(folder_of(model))
    assert "rm -rf /opt/sesame-csm/models/" not in run_deploy(host, model_folder=folder).text()
    pruned = run_deploy(host, model_folder=folder, model_prune=True).text()
    assert "rm -rf /opt/sesame-csm/models/0123456789ab\n" in pruned


def test_without_a_model_folder_the_way_to_a_better_voice_is_told() -> None:
    plan = run_deploy(bare(DEBIAN))
    assert not plan.failed
    assert any("model_folder=" in line for line in plan.said)


def test_model_none_leaves_a_model_folder_alone(model: Model) -> None:
    plan = run_deploy(bare(DEBIAN), model="none", model_folder=str(folder_of(model)))
    assert plan.text() == (PLANS / "trixie-docker.txt").read_text(encoding="utf-8")
    assert not any("model_folder=" in line for line in plan.said)


def test_a_model_folder_that_is_no_checkpoint_is_refused_before_anything_changes(
    model: Model,
) -> None:
    shard = next(file.path for file in model.files if file.path.endswith(".safetensors"))
    (folder_of(model) / shard).unlink()
    read_model.cache_clear()
    plan = run_deploy(bare(DEBIAN), model_folder=str(folder_of(model)))
    assert plan.failed
    assert plan.operations == []
    assert any(shard in line for line in plan.said)


@pytest.mark.parametrize(
    ("data", "changes", "reason", "remedy"),
    [
        ({}, {"memory_mib": 1024}, "1024 MiB of memory, 1025 MiB are needed", "more memory"),
        (
            {},
            {"disk_mib": 4000},
            "/ has 4000 MiB free, 5001 MiB are needed: 5000 in /var/lib/docker, 1 in /opt",
            "docker system prune",
        ),
        (
            {"torch_index": "none"},
            {"disk_mib": 9000},
            "10001 MiB are needed: 10000 in /var/lib/docker",
            "docker system prune",
        ),
        (
            {"torch_index": "https://mirror.example/cpu"},
            {"unreachable": ("4 Could not resolve",)},
            "torch comes from torch_index=https://mirror.example/cpu",
            "torch_index=auto",
        ),
    ],
)
def test_a_host_that_cannot_carry_the_model_is_refused_before_anything_changes(
    data: dict[str, str], changes: dict[str, object], reason: str, remedy: str, model: Model
) -> None:
    plan = run_deploy(bare(DEBIAN, **changes), model_folder=str(folder_of(model)), **data)
    said = "\n".join(plan.said)
    assert plan.failed
    assert plan.operations == []
    assert reason in said
    assert remedy in said


@pytest.fixture
def voices(tmp_path: Path) -> Voices:
    found = read_voices(write_persona(tmp_path / "voices/hal"))
    assert isinstance(found, Voices)
    return found


def test_the_first_plan_with_personas_is_the_golden_one(voices: Voices) -> None:
    plan = run_deploy(bare(DEBIAN), voices_folder=str(voices.folder))
    text = plan.text().replace(str(voices.folder), "VOICES_FOLDER")
    golden = PLANS / "trixie-docker-voices.txt"
    if os.environ.get("UPDATE_PLANS"):
        golden.write_text(text, encoding="utf-8")
    assert not plan.failed
    assert text == golden.read_text(encoding="utf-8")


def test_the_plan_of_a_host_settled_with_personas_is_empty(voices: Voices) -> None:
    settings = DeploySettings(voices_folder=voices.folder)
    plan = run_deploy(
        settled(DEBIAN, settings, "docker", voices=voices), voices_folder=str(voices.folder)
    )
    assert not plan.failed
    assert plan.changes == []


def test_personas_that_are_no_longer_given_are_removed_once_the_voice_runs_without(
    voices: Voices,
) -> None:
    host = settled(DEBIAN, DeploySettings(voices_folder=voices.folder), "docker", voices=voices)
    plan = run_deploy(host)
    assert plan.changes[-1] == "Start the service | Remove the personas of earlier deploys"
    assert "Start the service | Start the release" in plan.changes


def test_personas_that_cannot_be_used_are_refused_before_anything_changes(voices: Voices) -> None:
    (voices.folder / "hal/hal.wav").unlink()
    read_voices.cache_clear()
    plan = run_deploy(bare(DEBIAN), voices_folder=str(voices.folder))
    assert plan.failed
    assert plan.operations == []
    assert any("csm.clip='hal.wav'" in line for line in plan.said)


def test_an_unknown_distribution_is_refused_by_name() -> None:
    plan = run_deploy(bare(replace(DEBIAN, name="Arch Linux", identity="arch", version="rolling")))
    assert plan.failed
    assert any("Arch Linux" in line and "Ubuntu 24.04" in line for line in plan.said)


def test_every_refusal_is_told_at_once() -> None:
    plan = run_deploy(bare(DEBIAN, memory_mib=100, disk_mib=100, listeners=(NGINX,)))
    said = "\n".join(plan.said)
    assert said.count("✗") == 3


def test_a_port_that_our_own_container_holds_is_free_for_us() -> None:
    host = settled(DEBIAN, DeploySettings(), "docker")
    plan = run_deploy(replace(host, listeners=(NGINX,)))
    assert not plan.failed


def test_a_settled_host_is_deployed_to_without_asking_the_network() -> None:
    host = settled(DEBIAN, DeploySettings(), "docker")
    dead = tuple(f"{number} no route" for number in range(4))
    plan = run_deploy(replace(host, unreachable=dead))
    assert not plan.failed
    assert plan.changes == []


def test_a_present_engine_is_left_alone() -> None:
    plan = run_deploy(bare(DEBIAN, engine=COMPLETE_ENGINE))
    assert not any("apt-get" in command for _, run in plan.operations[:2] for command in run)
    assert plan.operations[0] == ("Install Docker | Start the Docker daemon", [])


def test_docker_source_present_is_refused_where_no_engine_answers() -> None:
    plan = run_deploy(bare(DEBIAN), docker_source="present")
    assert plan.failed
    assert any("no engine, no compose, no buildx" in line for line in plan.said)


def test_a_user_with_sudo_deploys_with_sudo() -> None:
    assert run_deploy(bare(DEBIAN, privilege="sudo")).sudo
    assert not run_deploy(bare(DEBIAN, privilege="root")).sudo


def test_wrong_host_data_ends_the_run_with_the_value_and_the_way_out() -> None:
    plan = run_deploy(bare(DEBIAN), port="abc")
    assert plan.operations == []
    said = "\n".join(plan.said)
    assert "port=abc" in said
    assert "--data port=8000" in said


def test_a_voice_that_fails_its_checks_fails_the_host_with_what_was_seen() -> None:
    checks = [
        {
            "name": "speech",
            "verdict": "not_met",
            "detail": "the answer is silent",
            "next": "look at docker logs sesame-csm-offline",
        }
    ]
    host = replace(
        settled(DEBIAN, DeploySettings(), "docker"), report={"ok": False, "checks": checks}
    )
    plan = run_deploy(host)
    said = "\n".join(plan.said)
    assert plan.failed
    assert "speech: the answer is silent" in said
    assert "docker logs" in said


def test_a_check_program_that_cannot_run_fails_the_host_with_its_words() -> None:
    host = replace(
        settled(DEBIAN, DeploySettings(), "docker"), report={"error": "exec format error"}
    )
    plan = run_deploy(host)
    assert plan.failed
    assert any("exec format error" in line for line in plan.said)


def test_a_voice_that_is_switched_off_is_stopped_and_verified_stopped() -> None:
    off = {"SESAME_ENABLED": "false"}
    settings = DeploySettings(service_env=off)
    running = settled(DEBIAN, settings, "docker")
    stopped = replace(running, container={**running.container, "status": "exited"}, listeners=())
    plan = run_deploy(running, service_env=off)
    assert "docker stop" in dict(plan.operations)["Start the service | Stop the voice"][0]
    assert plan.failed
    assert run_deploy(stopped, service_env=off).changes == []


def test_a_secret_stands_in_no_command_and_no_word(monkeypatch: pytest.MonkeyPatch) -> None:
    key = "a-key-that-must-not-be-seen-anywhere"
    monkeypatch.setenv("SESAME_SERVER_KEY", key)
    secrets = {"SESAME_SERVER_KEY": "env:SESAME_SERVER_KEY"}
    plan = run_deploy(bare(DEBIAN, report=REPORT), secrets=secrets, bind="0.0.0.0")
    assert not plan.failed
    assert "secrets/SESAME_SERVER_KEY" in plan.text()
    assert key not in plan.text() + "\n".join(plan.said)
