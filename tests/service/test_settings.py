import re
import socket
from pathlib import Path

import pytest

from service import settings as settings_module
from service.errors import SettingsError
from service.settings import ServiceSettings, read_settings


@pytest.fixture(autouse=True)
def on_a_bare_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the tests out of any container they may run in."""
    monkeypatch.setattr(settings_module, "CONTAINER_MARKS", ())


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    return tmp_path


def test_nothing_needs_to_be_set(secrets: Path) -> None:
    assert read_settings(secrets) == ServiceSettings()


def test_the_defaults_are_private_and_audible() -> None:
    settings = ServiceSettings()
    assert (settings.enabled, settings.mode, settings.basic_voice) == (True, "offline", True)
    assert (settings.host, settings.port, settings.server_key) == ("127.0.0.1", 8000, None)
    assert (settings.deadline_seconds, settings.stall_seconds) == (8, 5)


def test_every_setting_says_what_it_is_for() -> None:
    undocumented = [
        name for name, field in ServiceSettings.model_fields.items() if not field.description
    ]
    assert undocumented == []


def test_the_environment_is_read(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESAME_PORT", "8123")
    assert read_settings(secrets).port == 8123


def test_an_empty_variable_counts_as_unset(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESAME_SERVER_KEY", "")
    assert read_settings(secrets).server_key is None


def test_a_secret_file_wins_over_the_environment(
    secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (secrets / "SESAME_SERVER_KEY").write_text("from the file\n")
    monkeypatch.setenv("SESAME_SERVER_KEY", "from the environment")
    key = read_settings(secrets).server_key
    assert key is not None
    assert key.get_secret_value() == "from the file"


def test_the_folder_of_secrets_need_not_exist(secrets: Path) -> None:
    assert read_settings(secrets / "absent").server_key is None


def test_a_secret_file_that_cannot_be_used_is_refused(secrets: Path, tmp_path: Path) -> None:
    (secrets / "SESAME_SERVER_KEY").mkdir()
    with pytest.raises(SettingsError, match=f"a secret file in {tmp_path} cannot be read"):
        read_settings(secrets)


def test_a_secret_file_of_other_bytes_is_refused(secrets: Path) -> None:
    (secrets / "SESAME_SERVER_KEY").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="cannot be read: it is not UTF-8"):
        read_settings(secrets)


def test_an_empty_secret_file_is_refused(secrets: Path) -> None:
    (secrets / "SESAME_SERVER_KEY").write_text("\n")
    with pytest.raises(SettingsError, match="SESAME_SERVER_KEY: an empty key"):
        read_settings(secrets)


@pytest.mark.parametrize(
    ("variable", "value", "refusal"),
    [
        ("SESAME_PORT", "http", r"SESAME_PORT=http: .*integer.* 1 to 65535\."),
        ("SESAME_PORT", "0", r"SESAME_PORT=0: .*greater than or equal to 1\. "),
        ("SESAME_PORT", "65536", r"SESAME_PORT=65536: .*less than or equal to 65535\. "),
        ("SESAME_ENABLED", "perhaps", r"SESAME_ENABLED=perhaps: .*boolean.* true or false\."),
        ("SESAME_MODE", "online", "SESAME_MODE=online without SESAME_URL: .* or SESAME_MODE=off"),
        ("SESAME_HF_MODEL", "Kokoro", "SESAME_HF_MODEL=Kokoro: .*OWNER/NAME"),
        ("SESAME_REMOTE_FORM", "soap", "SESAME_REMOTE_FORM=soap: .*'openai'"),
        ("ELEVENLABS_VOICE_ID", "Sarah", "ELEVENLABS_VOICE_ID=Sarah: .*20 letters and digits"),
        ("ELEVENLABS_API_KEY", "sk_ab cd", "ELEVENLABS_API_KEY: .*no header can carry"),
        ("HF_TOKEN", "hf_ä", "HF_TOKEN: .*no header can carry"),
        (
            "SESAME_HUGGINGFACE_URL",
            "https://api-inference.huggingface.co/models/a/b",
            "SESAME_HUGGINGFACE_URL=.* is retired",
        ),
        ("ELEVENLABS_BASE_URL", "api.elevenlabs.io", "ELEVENLABS_BASE_URL=.*it is no URL of the"),
        ("SESAME_MODE", "of", "SESAME_MODE=of: .*'offline' or 'online'"),
        ("SESAME_DEVICE", "gpu", "SESAME_DEVICE=gpu: .*'auto', 'cuda' or 'cpu'"),
        ("SESAME_PRECISION", "int2", "SESAME_PRECISION=int2: .*'int8'"),
        ("SESAME_MAX_STREAMS", "0", "SESAME_MAX_STREAMS=0: .*greater than or equal to 1"),
        ("SESAME_MODEL_REVISION", "a/b", "SESAME_MODEL_REVISION=a/b: .*pattern"),
        ("SESAME_SERVER_KEY", "local", "SESAME_SERVER_KEY: .*`local` both mean"),
        ("SESAME_DEADLINE_SECONDS", "0", "SESAME_DEADLINE_SECONDS=0: .*greater than 0"),
        ("SESAME_DEADLINE_SECONDS", "nan", "SESAME_DEADLINE_SECONDS=nan: .*finite"),
        ("SESAME_STALL_SECONDS", "601", "SESAME_STALL_SECONDS=601: .*less than or equal to 600"),
        ("SESAME_PROT", "1", "SESAME_PROT is not a setting .*did you mean SESAME_PORT?"),
        ("SESAME_XYZZY", "1", "SESAME_XYZZY is not a setting .*known are: SESAME_ENABLED, "),
    ],
)
def test_a_value_that_cannot_be_served_is_refused_by_name(
    variable: str, value: str, refusal: str, secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=refusal):
        read_settings(secrets)


def test_our_own_address_is_ignored_offline(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESAME_URL", "http://localhost:8000/api/v1/generate")
    monkeypatch.setenv("SESAME_API_KEY", "local")
    settings = read_settings(secrets)
    assert (settings.mode, settings.api_key, settings.warnings) == ("offline", None, ())


@pytest.mark.parametrize(
    ("url", "refusal"),
    [
        ("http://localhost:8000/api/v1/generate", "is our own address"),
        ("http://127.0.0.1:8000", "is our own address"),
        ("http://[::1]:8000", "is our own address"),
        (f"http://{socket.gethostname()}:8000", "is our own address"),
        ("https://api-inference.huggingface.co/models/a/b", "is retired.*router.huggingface.co"),
        ("https://example.org/facebook/blenderbot-1B-distill", "is a chat model"),
        ("sesame.example", "it is no URL of the form"),
        ("ftp://sesame.example", "it is no URL of the form"),
        ("http://sesame.example:port", "it is no URL: "),
        ("https://maya:hunter2@sesame.example", "would show in logs"),
    ],
)
def test_a_primary_that_cannot_work_is_refused_with_the_reason(
    url: str, refusal: str, secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SESAME_MODE", "online")
    monkeypatch.setenv("SESAME_URL", url)
    with pytest.raises(SettingsError, match=refusal) as refused:
        read_settings(secrets)
    assert "hunter2" not in refused.value.message


@pytest.mark.parametrize(
    "url", ["http://localhost:8001", "https://sesame.example/api/v1/generate", "http://10.0.0.2"]
)
def test_another_server_may_be_the_primary(
    url: str, secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SESAME_MODE", "online")
    monkeypatch.setenv("SESAME_URL", url)
    assert read_settings(secrets).url == url


TOKEN = "hf_" + "a" * 34
KEY = "sk_" + "0" * 48


@pytest.mark.parametrize(
    ("environment", "fallbacks", "warning"),
    [
        ({}, (), None),
        ({"HF_TOKEN": TOKEN}, ("huggingface",), None),
        ({"HF_TOKEN": TOKEN, "ELEVENLABS_API_KEY": KEY}, ("huggingface", "elevenlabs"), None),
        ({"SESAME_FALLBACK_ENABLED": "true"}, (), "no credential is given: .*set HF_TOKEN or"),
        (
            {"SESAME_FALLBACK_ENABLED": "false", "HF_TOKEN": TOKEN},
            (),
            "SESAME_FALLBACK_ENABLED=false: HF_TOKEN will never be used; remove it, or",
        ),
        ({"HF_TOKEN": "token"}, ("huggingface",), "HF_TOKEN has not the form of such a key .hf_"),
        ({"ELEVENLABS_API_KEY": "hf_x"}, ("elevenlabs",), "ELEVENLABS_API_KEY has not the form"),
        ({"HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "1"}, ("huggingface",), "HF_HUB_OFFLINE=1 closes"),
        (
            {"SESAME_FALLBACK_ENABLED": "true", "SESAME_HUGGINGFACE_URL": "http://10.0.0.2"},
            ("huggingface",),
            None,
        ),
    ],
)
def test_text_may_leave_exactly_when_it_was_asked_for(
    environment: dict[str, str],
    fallbacks: tuple[str, ...],
    warning: str | None,
    secrets: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = read_settings(secrets)
    assert settings.fallbacks == fallbacks
    if warning is None:
        assert settings.warnings == ()
    else:
        assert re.search(warning, "\n".join(settings.warnings))


def test_all_problems_are_told_at_once(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESAME_PORT", "http")
    monkeypatch.setenv("SESAME_STALL_SECONDS", "soon")
    with pytest.raises(SettingsError) as refused:
        read_settings(secrets)
    assert len(refused.value.message.splitlines()) == 2


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "example.org"])
def test_a_public_bind_without_a_key_is_refused(
    host: str, secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SESAME_HOST", host)
    with pytest.raises(SettingsError, match=f"SESAME_HOST={host}: .*set SESAME_SERVER_KEY"):
        read_settings(secrets)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_no_key(host: str, secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESAME_HOST", host)
    assert read_settings(secrets).host == host


def test_a_public_bind_with_a_key_is_served(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (secrets / "SESAME_SERVER_KEY").write_text("a long random value")
    monkeypatch.setenv("SESAME_HOST", "0.0.0.0")
    assert read_settings(secrets).server_key is not None


def test_in_a_container_the_published_port_decides(
    secrets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings_module, "CONTAINER_MARKS", (tmp_path,))
    monkeypatch.setenv("SESAME_HOST", "0.0.0.0")
    assert read_settings(secrets).server_key is None


def test_a_refusal_never_shows_the_key(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (secrets / "SESAME_SERVER_KEY").write_text("hunter2")
    monkeypatch.setenv("SESAME_PORT", "http")
    with pytest.raises(SettingsError) as refused:
        read_settings(secrets)
    assert "hunter2" not in str(refused.value)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        ServiceSettings().port = 1


def test_without_a_model_and_without_the_basic_voice_nothing_could_speak(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SESAME_MODEL", "")
    monkeypatch.setenv("SESAME_BASIC_VOICE", "false")
    with pytest.raises(SettingsError, match="no rung could ever speak"):
        read_settings()


@pytest.mark.parametrize(("value", "model"), [(None, "sesame/csm-1b"), ("", ""), ("/m", "/m")])
def test_an_empty_model_is_none_and_an_unset_one_the_default(
    monkeypatch: pytest.MonkeyPatch, value: str | None, model: str
) -> None:
    if value is not None:
        monkeypatch.setenv("SESAME_MODEL", value)
    assert read_settings().model == model


def test_the_cache_is_where_hugging_face_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", "/srv/cache")
    assert read_settings().hf_home == Path("/srv/cache")
