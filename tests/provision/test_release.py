"""What is rendered onto a host, held against the program that reads it."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml

from provision._model import CsmEngine, Model, ModelFile
from provision._release import CONTAINER_USER, RELEASE_LABEL, Release, ReleaseFile, render_release
from provision._voices import Voices
from provision.settings import FOREIGN_NAMES, OWNED_BY_DEPLOY, SECRET_NAMES, DeploySettings
from service.errors import SettingsError
from service.settings import SECRETS, ServiceSettings, read_settings, variable

IMAGE = "sesame-csm:0123456789ab"
KEY = "0123456789abcdef0123456789abcdef"
PUBLIC = {"bind": "0.0.0.0", "secrets": {"SESAME_SERVER_KEY": KEY}}


MODEL = Model(Path("/models/mine"), (ModelFile("model.safetensors", 6 * 2**30, "00"),))
VOICES = Voices(Path("/voices/mine"), ("hal",), (ModelFile("hal/voice.toml", 1, "00"),))
SETTLED = {"SESAME_ALLOWED_HOSTS", "SESAME_MODEL", "SESAME_MODEL_REVISION", "SESAME_DEVICE"}
"""Variables whose value is the host's, not the service's default."""


def release(
    accelerator: Literal["nvidia", "cpu"] | None = None, model: Model = MODEL, /, **data: object
) -> Release:
    engine = CsmEngine(model, accelerator) if accelerator else None
    return render_release(DeploySettings.read(data, name="voice.lan"), IMAGE, engine)


def content(rendered: Release, path: str) -> str:
    return next(file.content for file in rendered.files if file.path == path)


def variables(rendered: Release, path: str) -> dict[str, str]:
    lines = [line for line in content(rendered, path).splitlines() if line and line[0] != "#"]
    return {
        name: shlex.split(value)[0] for name, _, value in (line.partition("=") for line in lines)
    }


def compose(rendered: Release) -> dict[str, Any]:
    parsed = yaml.safe_load(content(rendered, "docker-compose.sesame-offline.yml"))
    service: dict[str, Any] = parsed["services"]["sesame-csm"]
    return service


def test_the_environment_file_holds_every_variable_that_the_service_reads_and_no_other() -> None:
    read = {variable(name) for name in ServiceSettings.model_fields}
    secrets = {variable(name) for name in SECRETS}
    # A deploy names the model by its folder: there is no cache in the container.
    assert set(variables(release(), "service.env")) == read - {*secrets, "HF_HOME"}
    assert set(SECRET_NAMES) == secrets
    foreign = {name for name in read if not name.startswith("SESAME_")}
    assert foreign == {*FOREIGN_NAMES, "HF_TOKEN", "HF_HOME", "ELEVENLABS_API_KEY"}


def test_the_rendered_defaults_are_the_services_own() -> None:
    rendered = variables(release(), "service.env")
    for name, field in ServiceSettings.model_fields.items():
        named = variable(name)
        if named in rendered and named not in SETTLED | set(OWNED_BY_DEPLOY):
            plain = "" if field.default is None else str(field.default).removesuffix(".0")
            said = plain.lower() if isinstance(field.default, bool) else plain
            assert rendered[named] == said, named


@pytest.mark.parametrize("accelerator", [None, "cpu", "nvidia"])
def test_the_service_can_read_what_is_rendered(
    accelerator: Literal["nvidia", "cpu"] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.settings.in_container", lambda: True)
    for name, value in variables(release(accelerator), "service.env").items():
        monkeypatch.setenv(name, value)
    assert read_settings(Path("/nonexistent")).port == 8000


def test_what_maya_reads_has_the_guides_names_and_values() -> None:
    assert variables(release(), "maya.env") == {
        "SESAME_ENABLED": "true",
        "SESAME_MODE": "offline",
        "SESAME_URL": "http://localhost:8000/api/v1/generate",
        "SESAME_API_KEY": "local",
    }
    ours = {variable(name) for name in ServiceSettings.model_fields}
    assert set(variables(release(), "maya.env")) <= ours


def test_maya_shows_the_key_that_the_service_demands() -> None:
    assert variables(release(**PUBLIC), "maya.env")["SESAME_API_KEY"] == KEY


def test_a_given_variable_replaces_its_default() -> None:
    rendered = release(service_env={"SESAME_DEADLINE_SECONDS": 20})
    assert content(rendered, "service.env").count("SESAME_DEADLINE_SECONDS") == 1
    assert variables(rendered, "service.env")["SESAME_DEADLINE_SECONDS"] == "20"


def test_a_secret_stands_in_its_own_file_and_in_mayas_only() -> None:
    rendered = release(**PUBLIC)
    holders = {file.path for file in rendered.files if KEY in file.content}
    assert holders == {"secrets/SESAME_SERVER_KEY", "maya.env"}
    secret = next(file for file in rendered.files if file.path.startswith("secrets/"))
    assert (secret.mode, secret.owner) == ("400", CONTAINER_USER)
    maya = next(file for file in rendered.files if file.path == "maya.env")
    assert (maya.mode, maya.owner) == ("600", 0)


def test_the_keys_of_the_clouds_stand_in_their_own_files_only() -> None:
    keys = {"HF_TOKEN": f"hf_{KEY}", "ELEVENLABS_API_KEY": f"sk_{KEY}"}
    rendered = release(secrets=keys)
    for name, key in keys.items():
        assert [file.path for file in rendered.files if key in file.content] == [f"secrets/{name}"]
    assert compose(rendered)["secrets"] == ["ELEVENLABS_API_KEY", "HF_TOKEN"]


def test_a_key_that_is_no_longer_given_is_removed_from_the_host() -> None:
    kept = release(secrets={"HF_TOKEN": f"hf_{KEY}"})
    assert "/opt/sesame-csm/secrets/ELEVENLABS_API_KEY" in kept.unwanted
    assert "/opt/sesame-csm/secrets/HF_TOKEN" not in kept.unwanted


def test_the_guides_hugging_face_settings_are_refused_with_the_explanation(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rendered = release(
        service_env={
            "SESAME_ENABLED": True,
            "SESAME_MODE": "online",
            "SESAME_URL": "https://api-inference.huggingface.co/models/"
            "facebook/blenderbot-1B-distill",
            "SESAME_FALLBACK_ENABLED": True,
        },
        secrets={"SESAME_API_KEY": "hf_your_token_here"},
    )
    monkeypatch.setattr("service.settings.in_container", lambda: True)
    for name, value in variables(rendered, "service.env").items():
        monkeypatch.setenv(name, value)
    (tmp_path / "SESAME_API_KEY").write_text("hf_your_token_here\n", encoding="utf-8")
    with pytest.raises(SettingsError) as refused:
        read_settings(tmp_path)
    said = str(refused.value)
    assert "api-inference.huggingface.co is retired" in said
    assert "blenderbot-1B-distill is a chat model" in said
    assert "set HF_TOKEN" in said
    assert "hf_your_token_here" not in said


def test_for_maya_the_voice_is_here_wherever_its_own_primary_voice_is() -> None:
    online = {"SESAME_MODE": "online", "SESAME_URL": "https://voice.example"}
    told = variables(release(service_env=online), "maya.env")
    assert (told["SESAME_MODE"], told["SESAME_URL"]) == (
        "offline",
        "http://localhost:8000/api/v1/generate",
    )


def test_the_container_is_confined() -> None:
    service = compose(release())
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["user"] == f"{CONTAINER_USER}:{CONTAINER_USER}"
    assert service["ports"] == ["127.0.0.1:8000:8000"]
    assert "secrets" not in service


def test_without_a_model_the_service_is_told_that_there_is_none() -> None:
    told = variables(release(), "service.env")
    assert (told["SESAME_MODEL"], told["SESAME_DEVICE"]) == ("", "cpu")
    assert "volumes" not in compose(release())


@pytest.mark.parametrize(("accelerator", "device"), [("cpu", "cpu"), ("nvidia", "cuda")])
def test_with_a_model_the_service_is_told_where_it_is_and_what_runs_it(
    accelerator: Literal["nvidia", "cpu"], device: str
) -> None:
    told = variables(release(accelerator), "service.env")
    assert (told["SESAME_MODEL"], told["SESAME_DEVICE"]) == ("/models/csm", device)


def test_what_the_operator_says_of_the_model_counts() -> None:
    given = {"SESAME_DEVICE": "cpu", "SESAME_PRECISION": "int4"}
    told = variables(release("nvidia", service_env=given), "service.env")
    assert told.items() >= given.items()


def test_the_model_is_mounted_read_only_from_the_folder_of_its_content() -> None:
    service = compose(release("cpu"))
    assert service["volumes"] == [
        {
            "type": "bind",
            "source": f"/opt/sesame-csm/models/{MODEL.digest}",
            "target": "/models/csm",
            "read_only": True,
            "bind": {"create_host_path": False},
        }
    ]


def test_personas_are_mounted_read_only_from_the_folder_of_their_content() -> None:
    rendered = render_release(DeploySettings(), IMAGE, None, VOICES)
    assert compose(rendered)["volumes"] == [
        {
            "type": "bind",
            "source": f"/opt/sesame-csm/voices/{VOICES.digest}",
            "target": "/voices",
            "read_only": True,
            "bind": {"create_host_path": False},
        }
    ]
    assert variables(rendered, "service.env")["SESAME_VOICES_DIR"] == "/voices"
    assert variables(release(), "service.env")["SESAME_VOICES_DIR"] == ""


def test_a_model_and_personas_are_mounted_side_by_side() -> None:
    rendered = render_release(DeploySettings(), IMAGE, CsmEngine(MODEL, "cpu"), VOICES)
    targets = [volume["target"] for volume in compose(rendered)["volumes"]]
    assert targets == ["/models/csm", "/voices"]


def test_a_container_with_a_model_may_take_the_memory_of_its_weights() -> None:
    assert compose(release("cpu"))["mem_limit"] == f"{6 * 1024 + 2048}m"
    assert compose(release())["mem_limit"] == "1g"


@pytest.mark.parametrize(
    ("grace", "period"), [(None, "35s"), ("", "35s"), ("0", "5s"), ("89.5", "95s"), ("600", "605s")]
)
def test_docker_waits_longer_than_the_grace_of_the_service(grace: str | None, period: str) -> None:
    given = {} if grace is None else {"SESAME_GRACE_SECONDS": grace}
    assert compose(release(service_env=given))["stop_grace_period"] == period


def test_only_an_accelerated_container_is_given_a_gpu() -> None:
    engine = CsmEngine(MODEL, "nvidia", ("GPU-00-11", "MIG-22-33"))
    given = compose(render_release(DeploySettings(), IMAGE, engine))
    (device,) = given["deploy"]["resources"]["reservations"]["devices"]
    assert device["device_ids"] == ["GPU-00-11", "MIG-22-33"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    assert given["runtime"] == "nvidia"
    assert not {"deploy", "runtime"} & set(compose(release("cpu")))


def test_an_ipv6_bind_is_published_in_brackets() -> None:
    assert compose(release(bind="::1"))["ports"] == ["[::1]:8000:8000"]


def test_the_release_is_another_one_when_anything_in_it_differs() -> None:
    other_key = {**PUBLIC, "secrets": {"SESAME_SERVER_KEY": KEY[::-1]}}
    releases = [
        release(),
        release(port=9000),
        release(service_env={"SESAME_STALL_SECONDS": 9}),
        release(**PUBLIC),
        release(**other_key),
        render_release(DeploySettings(), "sesame-csm:ba9876543210"),
        release("cpu"),
        release("nvidia"),
        render_release(DeploySettings(), IMAGE, None, VOICES),
        render_release(DeploySettings(), IMAGE, None, replace(VOICES, files=MODEL.files)),
        release("cpu", Model(MODEL.origin, (ModelFile("model.safetensors", 6 * 2**30, "01"),))),
    ]
    assert len({rendered.digest for rendered in releases}) == len(releases)
    assert compose(releases[0])["labels"] == {RELEASE_LABEL: releases[0].digest}
    assert release() == releases[0]


def test_the_state_of_a_file_is_told_as_a_host_tells_it() -> None:
    digest = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    assert ReleaseFile("x", "hello", "600", 7).state == f"600 7 {digest}"
