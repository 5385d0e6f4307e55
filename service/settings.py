"""Every variable the service reads, with its type, its default and its refusals.

The only reader of the environment; it knows nothing of what is done with the values.
"""

import difflib
import ipaddress
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pydantic_settings
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from service.errors import SettingsError

__all__ = ["IGNORED", "PREFIX", "SECRETS_FOLDER", "ServiceSettings", "read_settings", "variable"]

PREFIX = "SESAME_"
SECRETS_FOLDER = Path("/run/secrets")
CONTAINER_MARKS = (Path("/.dockerenv"), Path("/run/.containerenv"))

# Variables of the guide that belong to Maya's backend and stand in the same file as ours.
IGNORED = {
    "SESAME_URL": "in offline mode it is our own address, for Maya's backend",
    "SESAME_API_KEY": "it is the key that Maya's backend shows; ours is SESAME_SERVER_KEY",
}

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
    """Where the primary voice runs: offline is on this host, the only place so far."""

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

    deadline_seconds: Seconds = 8.0
    """Seconds from a request to the first verified audio, over all rungs: above 0, at most 600."""

    stall_seconds: Seconds = 5.0
    """Seconds that may pass between two blocks of one answer: above 0, at most 600."""

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

    @field_validator("mode")
    @classmethod
    def _mode_has_a_rung(cls, mode: str) -> str:
        if mode == "online":
            raise PydanticCustomError(
                "no_remote_rung",
                "no remote rung exists yet in this version; set SESAME_MODE=offline",
            )
        return mode

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

    @model_validator(mode="after")
    def _some_rung_could_speak(self) -> Self:
        if self.enabled and not self.basic_voice and not self.model:
            raise PydanticCustomError(
                "no_rung",
                "SESAME_BASIC_VOICE=false with SESAME_ENABLED=true and no SESAME_MODEL: no rung "
                "could ever speak; set SESAME_MODEL or SESAME_BASIC_VOICE=true, or "
                "SESAME_ENABLED=false to be silent on purpose",
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


def _unknown_variables() -> Iterator[str]:
    known = [variable(name) for name in ServiceSettings.model_fields]
    for found in sorted(name for name in os.environ if name.upper().startswith(PREFIX)):
        if found.upper() in known or found.upper() in IGNORED:
            continue
        close = difflib.get_close_matches(found.upper(), known, n=1, cutoff=0.75)
        advice = f"did you mean {close[0]}?" if close else f"known are: {', '.join(known)}"
        yield f"{found} is not a setting of this version; {advice}"


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
    if name == "server_key":
        return f"{variable(name)}: {error['msg']}"
    description = " ".join((ServiceSettings.model_fields[name].description or "").split())
    return f"{variable(name)}={error['input']}: {error['msg']}. {description}"
