"""Every variable the service reads, with its type, its default and its refusals.

The only reader of the environment; it knows nothing of what is done with the values.
"""

import difflib
import ipaddress
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pydantic_settings
from pydantic import (
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from service.elsewhere import is_ours, shown, why_not
from service.errors import SettingsError

__all__ = [
    "PREFIX",
    "SECRETS",
    "SECRETS_FOLDER",
    "ServiceSettings",
    "close_hub",
    "read_settings",
    "variable",
]

PREFIX = "SESAME_"
SECRETS_FOLDER = Path("/run/secrets")
CONTAINER_MARKS = (Path("/.dockerenv"), Path("/run/.containerenv"))

NO_KEY = "local"  # what the guide's clients say where there is no key
HF_TOKEN = re.compile(r"hf_[A-Za-z0-9]{30,}")
ELEVENLABS_KEY = re.compile(r"(sk_)?[0-9a-f]{32,64}")

Seconds = Annotated[float, Field(gt=0, le=600, allow_inf_nan=False)]


class ServiceSettings(BaseSettings):
    """What the service is told: by secret files first, then the environment, then defaults."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        populate_by_name=True,
        use_attribute_docstrings=True,
    )

    enabled: bool = True
    """Whether the voice speaks at all: true or false. When false, health says offline."""

    mode: Literal["offline", "online"] = "offline"
    """Where the primary voice runs: offline is on this host, online at SESAME_URL."""

    url: str | None = None
    """Online: where the primary voice is. Offline it is our own address, for Maya's backend, and
    the service ignores it."""

    api_key: SecretStr | None = None
    """Online: the key shown to SESAME_URL; `local` means none. Best kept in a secret file."""

    remote_form: Literal["auto", "sesame", "openai", "raw"] = "auto"
    """What SESAME_URL understands: sesame is our own contract, openai POST /v1/audio/speech, raw a
    route that takes {"inputs": TEXT} and answers with audio; auto tells them by the path."""

    fallback_enabled: bool | None = None
    """Whether text may leave this host when the primary voice fails: true or false. Unset: true
    exactly when a credential of a fallback is given."""

    missing_voice: Literal["substitute", "skip"] = "substitute"
    """What a rung without a voice for a persona does: substitute lets it take the default
    persona's, skip has the next rung asked."""

    hf_token: Annotated[SecretStr | None, Field(validation_alias="HF_TOKEN")] = None
    """Token for Hugging Face's inference, a fallback. Best kept in a secret file."""

    hf_model: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+$")] = (
        "hexgrad/Kokoro-82M"
    )
    """Model of text-to-speech that Hugging Face runs for us: OWNER/NAME."""

    hf_provider: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")] = "auto"
    """Who runs it there: auto, or a provider such as fal-ai, replicate or hf-inference."""

    huggingface_url: str | None = None
    """A dedicated inference endpoint, instead of a model and a provider."""

    hf_hub_offline: Annotated[bool, Field(validation_alias="HF_HUB_OFFLINE")] = False
    """Whether Hugging Face's own library refuses to use the network: then it is no fallback. Where
    it is none anyway, the service sets it by itself."""

    elevenlabs_api_key: Annotated[
        SecretStr | None, Field(validation_alias="ELEVENLABS_API_KEY")
    ] = None
    """Key for ElevenLabs, a fallback. Best kept in a secret file."""

    elevenlabs_model_id: Annotated[
        str, Field(validation_alias="ELEVENLABS_MODEL_ID", pattern=r"^[a-z0-9_]+$")
    ] = "eleven_flash_v2_5"
    """Their model; the default is their fastest and costs half."""

    elevenlabs_voice_id: Annotated[
        str | None,
        Field(validation_alias="ELEVENLABS_VOICE_ID", pattern=r"^[A-Za-z0-9]{20}$"),
    ] = None
    """One voice of theirs for every persona: 20 letters and digits, from their voice library.
    Unset: as each persona has it."""

    elevenlabs_base_url: Annotated[str | None, Field(validation_alias="ELEVENLABS_BASE_URL")] = None
    """Where ElevenLabs is, for hosts with data residency; unset: https://api.elevenlabs.io."""

    host: str = "127.0.0.1"
    """Address to listen on. Beyond loopback it wants SESAME_SERVER_KEY."""

    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    """Port to listen on: 1 to 65535."""

    model: str = "sesame/csm-1b"
    """Where CSM's files are: a folder, or a repository in the Hugging Face cache. Empty: no model
    is run here."""

    model_revision: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")] = "main"
    """Which snapshot of the repository: a commit, or a name that the cache knows."""

    hf_home: Annotated[Path, Field(validation_alias="HF_HOME")] = Path("~/.cache/huggingface")
    """Where the Hugging Face cache is."""

    device: Literal["auto", "cuda", "cpu"] = "auto"
    """What runs the model: auto takes a GPU where there is one."""

    precision: Literal["auto", "fp32", "bf16", "int8", "int4"] = "auto"
    """Form of the model's weights: auto is bf16 on a GPU and int8 on a CPU."""

    max_streams: Annotated[int, Field(ge=1, le=256)] | None = None
    """How many answers the model speaks at once; unset: 4 on a CPU, 32 on a GPU."""

    voices_dir: Path | None = None
    """Folder of the operator's own personas: one folder each, with voice.toml and a clip."""

    basic_voice: bool = True
    """Whether espeak-ng speaks when nothing better can: true or false."""

    server_key: SecretStr | None = None
    """Key demanded of callers; none: no key is asked for. Best kept in a secret file."""

    public_url: Annotated[str | None, Field(pattern=r"^https?://[A-Za-z0-9.:\[\]-]+/?$")] = None
    """Where others reach the service, such as http://voice.lan:8000: audio_url begins with it, and
    its name is one of ours. Unset: as each request names us."""

    allowed_hosts: Annotated[
        str | None, Field(pattern=r"^(\*|[A-Za-z0-9.-]+(,[A-Za-z0-9.-]+)*)$")
    ] = None
    """Names under which the service may be asked, with commas between them, beside loopback's, the
    machine's own and every address; * allows all."""

    cors_origins: Annotated[
        str | None, Field(pattern=r"^https?://[^,/\s]+(,https?://[^,/\s]+)*$")
    ] = None
    """Pages of other origins that may ask from a browser, such as https://maya.example, with commas
    between them."""

    queue_limit: Annotated[int, Field(ge=0, le=10_000)] = 64
    """How many requests may wait for the voice that is asked first; more are answered 429. 0: none
    waits."""

    cache_bytes: Annotated[int, Field(ge=0, le=2**30)] = 16 * 2**20
    """Bytes of audio that are remembered, so that a short text asked for again is not spoken again.
    0: none."""

    deadline_seconds: Seconds = 8.0
    """Seconds from a request to the first verified audio, over all rungs: above 0, at most 600."""

    stall_seconds: Seconds = 5.0
    """Seconds that may pass between two blocks of one answer: above 0, at most 600."""

    grace_seconds: Annotated[float, Field(ge=0, le=600, allow_inf_nan=False)] = 30.0
    """Seconds that what is being spoken may take after SIGTERM: 0 to 600. New requests to speak are
    answered 503 meanwhile."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Secret files come before the environment; there is no .env file."""
        del settings_cls, dotenv_settings
        return init_settings, file_secret_settings, env_settings

    @field_validator("server_key")
    @classmethod
    def _key_is_a_key(cls, key: SecretStr | None) -> SecretStr | None:
        value = None if key is None else key.get_secret_value().strip()
        if value in ("", "local"):
            raise PydanticCustomError(
                "no_key",
                "an empty key and the word `local` both mean that there is no key: "
                "unset it, or set a long random value (openssl rand -hex 32)",
            )
        return None if value is None else SecretStr(value)

    @field_validator("api_key", "hf_token", "elevenlabs_api_key")
    @classmethod
    def _key_of_others(cls, key: SecretStr | None) -> SecretStr | None:
        value = "" if key is None else key.get_secret_value().strip()
        if not value.isascii() or any(character.isspace() for character in value):
            raise PydanticCustomError(
                "no_header", "it holds what no header can carry; copy the key again"
            )
        return None if value in ("", NO_KEY) else SecretStr(value)

    @field_validator("huggingface_url", "elevenlabs_base_url")
    @classmethod
    def _address_can_work(cls, url: str | None) -> str | None:
        if url is not None and (why := why_not(url)):
            raise PydanticCustomError("no_address", "{why}", {"why": why})
        return url

    @model_validator(mode="after")
    def _primary_can_work(self) -> Self:
        if self.mode == "offline":
            return self
        if self.url is None:
            raise PydanticCustomError(
                "no_url",
                "SESAME_MODE=online without SESAME_URL: there is no primary voice; set SESAME_URL "
                "to the address of a server that speaks, or SESAME_MODE=offline",
            )
        if why := why_not(self.url):
            raise PydanticCustomError(
                "no_primary", "SESAME_URL={url}: {why}", {"url": shown(self.url), "why": why}
            )
        if is_ours(self.url, host=self.host, port=self.port):
            raise PydanticCustomError(
                "own_address",
                "SESAME_URL={url} is our own address: with SESAME_MODE=online the service would "
                "ask itself; give the address of another server, or set SESAME_MODE=offline",
                {"url": shown(self.url)},
            )
        return self

    @model_validator(mode="after")
    def _some_rung_could_speak(self) -> Self:
        primary = self.mode == "online" or bool(self.model)
        if self.enabled and not (primary or self.basic_voice or self.fallbacks):
            raise PydanticCustomError(
                "no_rung",
                "SESAME_BASIC_VOICE=false with SESAME_ENABLED=true, no SESAME_MODEL and no "
                "fallback: no rung could ever speak; set SESAME_MODEL or SESAME_BASIC_VOICE=true, "
                "or SESAME_ENABLED=false to be silent on purpose",
            )
        return self

    @model_validator(mode="after")
    def _public_bind_has_a_key(self) -> Self:
        if self.server_key is None and not self.loopback and not in_container():
            raise PydanticCustomError(
                "public_bind",
                "SESAME_HOST={host}: anyone who reaches this host could speak through it; "
                "set SESAME_SERVER_KEY, or SESAME_HOST=127.0.0.1",
                {"host": self.host},
            )
        return self

    @property
    def fallback_on(self) -> bool:
        """Whether text may leave this host when the primary voice fails."""
        return bool(self._credentials) if self.fallback_enabled is None else self.fallback_enabled

    @property
    def fallbacks(self) -> tuple[str, ...]:
        """The names of the cloud rungs that are asked for and can be built, in their order."""
        if not self.fallback_on:
            return ()
        wanted = {
            "huggingface": self.hf_token or self.huggingface_url,
            "elevenlabs": self.elevenlabs_api_key,
        }
        return tuple(name for name, credential in wanted.items() if credential)

    @property
    def _credentials(self) -> list[str]:
        given = {"hf_token": self.hf_token, "elevenlabs_api_key": self.elevenlabs_api_key}
        return [variable(name) for name, key in given.items() if key is not None]

    @property
    def warnings(self) -> tuple[str, ...]:
        """Settings that cannot do what they seem to be for, each with the way out."""
        return tuple(self._doubts())

    def _doubts(self) -> Iterator[str]:
        if self.fallback_enabled and not self.fallbacks:
            yield (
                "SESAME_FALLBACK_ENABLED=true and no credential is given: no cloud stands behind "
                "the primary voice; set HF_TOKEN or ELEVENLABS_API_KEY"
            )
        if self.fallback_enabled is False and self._credentials:
            yield (
                f"SESAME_FALLBACK_ENABLED=false: {' and '.join(self._credentials)} will never be "
                "used; remove it, or set SESAME_FALLBACK_ENABLED=true"
            )
        if self.hf_hub_offline and "huggingface" in self.fallbacks:
            yield (
                "HF_HUB_OFFLINE=1 closes the fallback at Hugging Face; unset it, or remove HF_TOKEN"
            )
        for name, form, looks in (
            ("hf_token", HF_TOKEN, "hf_…"),
            ("elevenlabs_api_key", ELEVENLABS_KEY, "sk_… or 32 hexadecimal digits"),
        ):
            key: SecretStr | None = getattr(self, name)
            if key is not None and not form.fullmatch(key.get_secret_value()):
                yield f"{variable(name)} has not the form of such a key ({looks}); copy it again"

    @property
    def loopback(self) -> bool:
        """Whether only this host can reach the bind."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def in_container() -> bool:
    """Tell whether this is a container, where the published port decides who gets in."""
    return any(mark.exists() for mark in CONTAINER_MARKS)


def read_settings(secrets_folder: Path = SECRETS_FOLDER) -> ServiceSettings:
    """Read the environment and the secret files, or raise SettingsError with one line a problem.

    + secrets_folder: holds one file a secret, named as the variable; it need not exist
    """
    sources: dict[str, Any] = {"_secrets_dir": secrets_folder if secrets_folder.exists() else None}
    if os.environ.get(variable("model")) == "":
        # Elsewhere an empty variable is an unset one; here it says that there is no model.
        sources["model"] = ""
    problems = list(_unknown_variables())
    if problems:
        raise SettingsError("\n".join(problems))
    try:
        with warnings.catch_warnings():
            # A secret file skipped with a warning would leave the service without a key.
            warnings.simplefilter("error")
            return ServiceSettings(**sources)
    except ValidationError as error:
        raise SettingsError("\n".join(map(_refusal, error.errors()))) from None
    except (OSError, UnicodeError, pydantic_settings.SettingsError) as error:
        cause = error.__cause__ or error
        # The words of a UnicodeError quote a byte of the secret.
        why = "it is not UTF-8" if isinstance(cause, UnicodeError) else cause
        raise SettingsError(f"a secret file in {secrets_folder} cannot be read: {why}") from None


def close_hub() -> None:
    """Have Hugging Face's library, wherever it may be loaded, refuse to use the network."""
    os.environ["HF_HUB_OFFLINE"] = "1"


def _unknown_variables() -> Iterator[str]:
    known = [variable(name) for name in ServiceSettings.model_fields]
    for found in sorted(name for name in os.environ if name.upper().startswith(PREFIX)):
        if found.upper() in known:
            continue
        close = difflib.get_close_matches(found.upper(), known, n=1, cutoff=0.75)
        advice = f"did you mean {close[0]}?" if close else f"known are: {', '.join(known)}"
        yield f"{found} is not a setting of this version; {advice}"


SECRETS = ("server_key", "api_key", "hf_token", "elevenlabs_api_key")
"""Settings whose values are never shown."""


def variable(name: str) -> str:
    """Give the variable of a setting."""
    alias = ServiceSettings.model_fields[name].validation_alias
    return str(alias) if alias else PREFIX + name.upper()


def _refusal(error: ErrorDetails) -> str:
    """Say one problem in one line: variable, value, rule, way out."""
    if not error["loc"]:
        return error["msg"]
    place = str(error["loc"][0])
    name = next(name for name in ServiceSettings.model_fields if place in (name, variable(name)))
    if name in SECRETS:
        return f"{variable(name)}: {error['msg']}"
    description = " ".join((ServiceSettings.model_fields[name].description or "").split())
    value = shown(str(error["input"])) if name.endswith("url") else error["input"]
    return f"{variable(name)}={value}: {error['msg']}. {description}"
