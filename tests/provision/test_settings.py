"""What a deploy may be told, and what it refuses."""

from pathlib import Path
from typing import Any

import pytest
from pyinfra.api.exceptions import DeployError

from provision.settings import WAYS_OUT, DeploySettings

KEY = "0123456789abcdef0123456789abcdef"
ONLINE = {"SESAME_MODE": "online", "SESAME_URL": "https://voice.example/api/v1/generate"}


def refusal(**data: Any) -> str:
    with pytest.raises(DeployError) as refused:
        DeploySettings.read(data, name="voice.lan")
    return str(refused.value)


def test_the_defaults_are_private() -> None:
    settings = DeploySettings.read({}, name="voice.lan")
    assert settings.bind.is_loopback
    assert settings.secrets == {}


def test_data_of_other_programs_is_left_alone() -> None:
    data = {"ssh_user": "root", "_sudo": True, "rack": 7}
    assert DeploySettings.read(data, name="voice.lan").port == 8000


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"model": "maybe"}, "model=maybe: Input should be 'auto', 'required' or 'none'"),
        ({"model": "required"}, "model=required, and there is none: give model_token=env:HF_TOKEN"),
        ({"model_source": "mirror"}, "model_source=mirror, and it is not said which: give model_m"),
        ({"model_source": "folder"}, "model_source=folder, and it is not said which: give model_f"),
        ({"model_mirror": "models.lan"}, "model_mirror=models.lan: String should match pattern"),
        ({"model_mirror": "https://me:pw@models.lan"}, "model_mirror: an address with a user or"),
        ({"model_token": "hf_a b"}, "model_token: a token is printable ASCII without spaces"),
        ({"model_token": "env:NOT_SET_HERE"}, "model_token: the environment variable NOT_SET_HERE"),
        ({"service_env": ONLINE, "model": "required"}, "leave model out"),
        ({"model_folder": 7}, "model_folder=7"),
        ({"accelerator": "tpu"}, "accelerator=tpu"),
        ({"gpu_devices": "first"}, "gpu_devices=first: 'first' names no GPU; give auto, all, or a"),
        ({"gpu_devices": []}, "gpu_devices=[]: '' names no GPU"),
        ({"gpu_devices": [0, -1]}, "'-1' names no GPU"),
        ({"nvidia_toolkit": "repository"}, "nvidia_toolkit=repository"),
        ({"nvidia_toolkit_version": 1.19}, "a whole version of the packages, such as 1.19.0-1"),
        ({"nvidia_toolkit_version": "1.19.0"}, "nvidia_toolkit_version=1.19.0: String should"),
        ({"nvidia_repository": "https://me:word@mirror"}, "an address without a password"),
        ({"nvidia_key": "c95b"}, "nvidia_key=c95b: String should match"),
        ({"torch_index": "ftp://mirror"}, "torch_index=ftp://mirror"),
        ({"torch_index": "https://me:word@mirror"}, "would stay in the image's history"),
        ({"port": "abc"}, "port=abc: Input should be a valid integer"),
        ({"port": 0}, "port=0: Input should be greater than or equal to 1"),
        ({"port": 65536}, "port=65536"),
        ({"bind": "everywhere"}, "bind=everywhere: value is not a valid IPv4 or IPv6 address"),
        ({"docker_source": "snap"}, "docker_source=snap"),
        ({"base_image": ""}, "base_image="),
        ({"public_host": "voice.lan/x"}, "public_host=voice.lan/x"),
        ({"start_timeout_seconds": 1}, "start_timeout_seconds=1"),
        ({"service_env": ["SESAME_MODE"]}, "service_env: Input should be a valid dictionary"),
        ({"service_env": {"PATH": "/"}}, "PATH is no variable of the service"),
        ({"service_env": {"SESAME_MODE": "off'line"}}, "SESAME_MODE holds a quote"),
        ({"service_env": {"SESAME_PORT": 9000}}, "SESAME_PORT cannot be set here"),
        ({"service_env": {"SESAME_SERVER_KEY": KEY}}, "give it in secrets, not in service_env"),
        ({"service_env": {"HF_TOKEN": KEY}}, "HF_TOKEN is a secret: give it in secrets"),
        ({"service_env": {"HF_ENDPOINT": "x"}}, "HF_ENDPOINT is no variable of the service"),
        ({"service_env": {"HF_HOME": "/x"}}, "HF_HOME cannot be set here"),
        ({"service_env": {"ELEVENLABS_VOICE": "x"}}, "or are ELEVENLABS_BASE_URL, ELEVENLABS_M"),
        ({"service_env": {"SESAME_URL": "https://x"}}, "the mode is offline: set SESAME_MODE too"),
        ({"secrets": {"SESAME_API_KEY": KEY}}, "for the key that callers must show give SESAME_S"),
        ({"service_env": ONLINE, "model_folder": "/csm"}, "leave model_folder out"),
        (
            {"voices_folder": "/v", "service_env": {"SESAME_VOICES_DIR": "/w"}},
            "leave SESAME_VOICES_DIR out",
        ),
        ({"voices_folder": 7}, "voices_folder=7"),
        ({"seed_host": 7}, "seed_host=7"),
        ({"fallback_failure": "ignore"}, "fallback_failure=ignore: Input should be 'fail' or"),
        ({"secrets": {"SESAME_KEY": KEY}}, "SESAME_KEY is no secret of the service"),
        ({"secrets": {"SESAME_SERVER_KEY": "short"}}, "has 5 characters, at least 16 are needed"),
        ({"secrets": {"HF_TOKEN": "hf_"}}, "copy the whole key, or leave it out"),
        ({"secrets": {"SESAME_SERVER_KEY": "sixteen with spaces"}}, "printable ASCII"),
        ({"secrets": {"SESAME_SERVER_KEY": "env:NOT_SET_HERE"}}, "NOT_SET_HERE is not set"),
        ({"secrets": {"SESAME_SERVER_KEY": "file:/none"}}, "/none cannot be read: No such file"),
        ({"bind": "0.0.0.0"}, "bind=0.0.0.0 publishes the voice beyond this host"),
        ({"prot": 9000}, "prot: there is no such setting; did you mean port?"),
    ],
)
def test_what_cannot_work_is_refused_with_its_value_and_rule(
    data: dict[str, Any], words: str
) -> None:
    assert words in refusal(**data)


def test_every_wrong_setting_is_named_at_once() -> None:
    said = refusal(port="abc", bind="x", dockr_source="auto")
    assert said.count("\n") == 3


def test_every_setting_has_a_way_out() -> None:
    assert set(WAYS_OUT) == set(DeploySettings.model_fields)


def test_a_model_folder_may_start_at_home() -> None:
    settings = DeploySettings.read({"model_folder": "~/csm-1b"}, name="voice.lan")
    assert settings.model_folder == Path.home() / "csm-1b"


def test_a_refused_secret_is_never_shown() -> None:
    secret = "weak key with spaces"
    assert secret not in refusal(secrets={"SESAME_SERVER_KEY": secret})


def test_a_password_in_an_address_is_never_shown() -> None:
    for setting in ("torch_index", "nvidia_repository"):
        assert "opensesame" not in refusal(**{setting: "https://me:opensesame@mirror.example/"})


@pytest.mark.parametrize(
    ("given", "devices"),
    [
        ("auto", "auto"),
        ("all", "all"),
        (0, ("0",)),
        ("0,1", ("0", "1")),
        ([1, "GPU-00-11"], ("1", "GPU-00-11")),
        ("MIG-GPU-00-11/7/0", ("MIG-GPU-00-11/7/0",)),
    ],
)
def test_gpus_are_named_one_by_one_or_together(given: object, devices: object) -> None:
    assert DeploySettings.read({"gpu_devices": given}, name="host").gpu_devices == devices


def test_secrets_are_taken_from_files(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n", encoding="utf-8")
    data = {"secrets": {"SESAME_SERVER_KEY": f"file:{tmp_path / 'key'}"}}
    settings = DeploySettings.read(data, name="voice.lan")
    assert settings.secrets["SESAME_SERVER_KEY"].get_secret_value() == KEY
    assert KEY not in repr(settings)


def test_a_primary_voice_elsewhere_is_named_with_its_key() -> None:
    data = {"service_env": ONLINE, "secrets": {"SESAME_API_KEY": KEY}}
    settings = DeploySettings.read(data, name="voice.lan")
    assert settings.online
    assert settings.service_env["SESAME_URL"] == ONLINE["SESAME_URL"]


def test_the_keys_of_both_fallbacks_are_secrets_and_their_other_variables_are_not() -> None:
    data = {
        "service_env": {"ELEVENLABS_MODEL_ID": "eleven_v3", "SESAME_FALLBACK_ENABLED": True},
        "secrets": {"HF_TOKEN": KEY, "ELEVENLABS_API_KEY": KEY},
    }
    settings = DeploySettings.read(data, name="voice.lan")
    assert settings.service_env["SESAME_FALLBACK_ENABLED"] == "true"
    assert set(settings.secrets) == {"HF_TOKEN", "ELEVENLABS_API_KEY"}


def test_what_data_options_have_parsed_becomes_text_again() -> None:
    data = {"service_env": {"SESAME_BASIC_VOICE": False, "SESAME_DEADLINE_SECONDS": 2.5}}
    settings = DeploySettings.read(data, name="voice.lan")
    assert settings.service_env == {"SESAME_BASIC_VOICE": "false", "SESAME_DEADLINE_SECONDS": "2.5"}


@pytest.mark.parametrize(
    ("data", "local", "public"),
    [
        ({}, "http://127.0.0.1:8000", "http://localhost:8000"),
        ({"bind": "::1"}, "http://[::1]:8000", "http://localhost:8000"),
        ({"port": 9000}, "http://127.0.0.1:9000", "http://localhost:9000"),
        ({"bind": "10.0.0.5"}, "http://10.0.0.5:8000", "http://10.0.0.5:8000"),
        ({"bind": "0.0.0.0"}, "http://127.0.0.1:8000", "http://localhost:8000"),
        ({"public_host": "voice.lan"}, "http://127.0.0.1:8000", "http://voice.lan:8000"),
    ],
)
def test_where_the_voice_is_reached_follows_from_the_bind(
    data: dict[str, Any], local: str, public: str
) -> None:
    settings = DeploySettings.read({"secrets": {"SESAME_SERVER_KEY": KEY}, **data}, name="host")
    assert (settings.local_url, settings.public_url) == (local, public)
