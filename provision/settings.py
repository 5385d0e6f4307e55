"""Every setting of a deploy: its default, its type and what it refuses.

Read once for each host from pyinfra's host data. No other module reads host data or environment.
"""

import difflib
import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    IPvAnyAddress,
    SecretStr,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)
from pyinfra.api import Host
from pyinfra.api.exceptions import DeployError

from provision._network import TORCH_CPU_INDEX
from provision._toolkit import TOOLKIT_KEY, TOOLKIT_REPOSITORY, TOOLKIT_VERSION

SECRET_NAMES = ("ELEVENLABS_API_KEY", "HF_TOKEN", "SESAME_API_KEY", "SESAME_SERVER_KEY")
"""Variables of the service that reach it as files, never through its environment."""

FOREIGN_NAMES = (
    "ELEVENLABS_BASE_URL",
    "ELEVENLABS_MODEL_ID",
    "ELEVENLABS_VOICE_ID",
    "HF_HUB_OFFLINE",
)
"""Variables of the service that are no secrets and keep the names that their makers gave them."""

OWNED_BY_DEPLOY = {
    "HF_HOME": "a deploy names the model by its folder; set model_folder instead",
    "SESAME_HOST": "the container always listens on all of its own interfaces; set bind instead",
    "SESAME_PORT": "the port inside the container is fixed; set port instead",
}
"""Variables that ``service_env`` may not set, and what to set instead."""

SHORTEST_SECRET = 16
"""Characters. A digest of the secrets stands in a container label: none may be guessable."""

WAYS_OUT = {
    "docker_source": "give one of auto, docker, distribution, present",
    "docker_version": "give auto, or a whole version of the engine, such as 29.1.3",
    "docker_daemon": "give one of auto, merge, leave",
    "base_image": "give auto, debootstrap, or a registry reference such as debian:trixie-slim",
    "model": "give one of auto, required, none",
    "model_folder": "give the path of a folder of the machine that you deploy from",
    "model_source": "give one of auto, hub, mirror, folder",
    "model_token": 'give "env:HF_TOKEN" or "file:PATH", and keep the token there',
    "model_mirror": "give an address such as https://models.lan, without a user or a password",
    "model_manifest": "give the path of a file of the machine that you deploy from",
    "model_prune": "give true or false",
    "accelerator": "give one of auto, nvidia, cpu",
    "seed_host": "give the name of a host as the inventory has it",
    "gpu_devices": 'give auto, all, or a list such as [0, "GPU-…", "MIG-…"] (nvidia-smi -L)',
    "nvidia_toolkit": "give one of auto, present",
    "nvidia_toolkit_version": "give a whole version of the packages, such as 1.19.0-1",
    "nvidia_repository": "give an address without a password, such as " + TOOLKIT_REPOSITORY,
    "nvidia_key": "give the 40 hexadecimal digits of gpg --show-keys, in capitals",
    "torch_index": f"give auto, none, or an address such as {TORCH_CPU_INDEX}",
    "bind": "give an IP address of the host, such as 127.0.0.1 or 0.0.0.0",
    "port": "give a number from 1 to 65535, such as --data port=8000",
    "public_host": "give the name or address at which others reach the host, such as voice.lan",
    "service_env": 'give a table of variables, such as {"SESAME_BASIC_VOICE": "true"}',
    "secrets": 'give a table such as {"SESAME_SERVER_KEY": "env:SESAME_SERVER_KEY"}',
    "voices_folder": "give the path of a folder of the machine that you deploy from",
    "fallback_failure": "give one of fail, warn",
    "start_timeout_seconds": "give a number of seconds from 5 to 3600",
}
"""What to do about a wrong value, by setting."""


def _as_environment_value(value: object) -> object:
    """Turn what ``--data`` has parsed back into what an environment file holds."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


EnvironmentValue = Annotated[str, BeforeValidator(_as_environment_value)]


def _take_secret(source: object) -> object:
    """Follow ``env:NAME`` and ``file:PATH`` on the deploying machine; take the rest as it is."""
    if not isinstance(source, str):
        return source
    kind, _, place = source.partition(":")
    if kind == "env":
        if not os.environ.get(place):
            raise ValueError(
                f"the environment variable {place} is not set on the deploying machine"
            )
        return os.environ[place]
    if kind == "file":
        try:
            return Path(place).expanduser().read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ValueError(f"{place} cannot be read: {error.strerror}") from None
    return source


def _take_devices(value: object) -> object:
    """Take one GPU or several, named by numbers or identifiers; refuse what can name none."""
    if value in ("auto", "all"):
        return value
    named = value if isinstance(value, list | tuple) else str(value).split(",")
    devices = tuple(str(name).strip() for name in named)
    for name in devices or ("",):
        if not re.fullmatch(r"\d+|GPU-[0-9a-fA-F-]+|MIG-[0-9a-zA-Z/-]+", name):
            raise ValueError(f"{name!r} names no GPU")
    return devices


GpuDevices = Annotated[str | tuple[str, ...], BeforeValidator(_take_devices)]

Secret = Annotated[SecretStr, BeforeValidator(_take_secret)]


class DeploySettings(BaseModel):
    """What one host is to become."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True
    )

    docker_source: Literal["auto", "docker", "distribution", "present"] = "auto"
    """Where Docker comes from: Docker's own repository, the distribution, or an engine that is
    there. ``auto`` takes what is there, else Docker's repository if it can be reached, else the
    distribution."""

    docker_version: str = Field(default="auto", pattern=r"^(auto|\d+\.\d+\.\d+)$")
    """Version of the engine, to which apt is held; ``auto`` installs the newest one and leaves an
    installed one alone. An engine that somebody else has brought is never changed."""

    docker_daemon: Literal["auto", "merge", "leave"] = "auto"
    """What is written into Docker's configuration: ``auto`` sets live-restore and log rotation on
    an engine that a deploy has brought, and on another only what a GPU needs; ``merge`` sets them
    on any engine; ``leave`` writes nothing. What somebody else has set always stays."""

    base_image: str = Field(default="auto", min_length=1)
    """What the service image is built on: a registry reference of a Debian or Ubuntu image, or
    ``debootstrap`` from the host's own package mirror. ``auto`` asks the registry first."""

    model: Literal["auto", "required", "none"] = "auto"
    """Whether CSM is to speak: ``required`` refuses a deploy without it, ``auto`` goes on with the
    basic voice and says so, ``none`` leaves it out."""

    model_folder: Path | None = None
    """Folder of the deploying machine with a checkpoint in the layout of ``sesame/csm-1b``; what
    the engine needs of it is placed on the host."""

    model_source: Literal["auto", "hub", "mirror", "folder"] = "auto"
    """Where the model's files come from: the Hugging Face Hub, a mirror of it, or a folder of the
    deploying machine. ``auto`` takes the folder that is given, else the mirror that is given, else
    the hub when there is a token for it."""

    model_token: Secret | None = None
    """Token that may read the model's repository, for the one command that fetches it; the service
    never has it. ``env:NAME`` and ``file:PATH`` are followed on the deploying machine."""

    model_mirror: str | None = Field(default=None, pattern=r"^https?://[!-~]+$")
    """Address of a mirror that speaks the hub's protocol. It gets ``model_token`` if one is
    given."""

    model_manifest: Path | None = None
    """File of the deploying machine that lists another model's files, as
    ``python -m service.model_cache`` writes it; unset: the published CSM-1B."""

    model_prune: bool = False
    """Whether models of earlier deploys are removed from the host."""

    accelerator: Literal["auto", "nvidia", "cpu"] = "auto"
    """What the model runs on; ``auto`` takes the host's GPU where its driver can run the image, and
    installs NVIDIA's toolkit for it, else the processor. A driver is never installed."""

    gpu_devices: GpuDevices = "auto"
    """Which GPUs the container is given: ``auto`` (the first one that can be used), ``all``, or
    indexes, UUIDs and UUIDs of MIG instances. The model runs on the first of them."""

    nvidia_toolkit: Literal["auto", "present"] = "auto"
    """Where NVIDIA's container toolkit comes from: ``present`` takes the one that is there and
    installs none; ``auto`` installs it where there is none."""

    nvidia_toolkit_version: str = Field(
        default=TOOLKIT_VERSION, pattern=r"^\d+\.\d+\.\d+(~rc\.\d+)?-\d+$"
    )
    """Version of the toolkit's four packages, to which apt is held."""

    nvidia_repository: str = Field(default=TOOLKIT_REPOSITORY, pattern=r"^https?://[^@\s]+$")
    """Where the toolkit's packages and their key come from: NVIDIA's repository, or a mirror."""

    nvidia_key: str = Field(default=TOOLKIT_KEY, pattern=r"^[0-9A-F]{40}$")
    """Fingerprint of the key that signs that repository."""

    seed_host: str | None = None
    """Host of the inventory that builds the image and gets the model; the others take both from it,
    over the deploying machine. Give it to all of them, itself included."""

    torch_index: str = Field(default="auto", pattern=r"^(auto|none|https?://[!-~]+)$")
    """Package index that torch alone comes from; ``none``: the one that pip is configured with.
    ``auto`` takes PyTorch's index without CUDA for a model on the processor, if it answers."""

    bind: IPvAnyAddress = ipaddress.ip_address("127.0.0.1")
    """Address of the host on which the voice is published."""

    port: int = Field(default=8000, ge=1, le=65535)
    """Port of the host on which the voice is published."""

    public_host: str | None = Field(default=None, pattern=r"^[A-Za-z0-9.:\[\]-]+$")
    """Name or address at which Maya's backend reaches the host; unset: ``localhost``."""

    service_env: dict[str, EnvironmentValue] = {}
    """Any variable of the service that is no secret, passed through and validated by the service
    itself before it is switched over."""

    secrets: dict[str, Secret] = {}
    """Secrets of the service by variable name: ``env:NAME`` and ``file:PATH`` are followed on the
    deploying machine, anything else is the value."""

    voices_folder: Path | None = None
    """Folder of the deploying machine with personas of your own: ``NAME/voice.toml`` and the clip
    that it names. They are checked, placed on the host and offered beside the house's."""

    fallback_failure: Literal["fail", "warn"] = "fail"
    """Whether a fallback that was asked for and cannot work fails the deploy, or is told of."""

    start_timeout_seconds: int = Field(default=180, ge=5, le=3600)
    """How long the service may take from its start to healthy."""

    @field_validator("model_folder", "model_manifest", "voices_folder")
    @classmethod
    def _start_at_home(cls, path: Path | None) -> Path | None:
        return path.expanduser() if path else None

    @field_validator("model_token")
    @classmethod
    def _refuse_what_is_no_token(cls, token: SecretStr | None) -> SecretStr | None:
        if token and not re.fullmatch(r"[!-~]+", token.get_secret_value()):
            raise ValueError("a token is printable ASCII without spaces")
        return token

    @field_validator("model_mirror")
    @classmethod
    def _refuse_a_password_of_the_mirror(cls, address: str | None) -> str | None:
        if address and "@" in address:
            raise ValueError("an address with a user or a password would stand in command lines")
        return address

    @field_validator("torch_index")
    @classmethod
    def _refuse_a_password(cls, index: str) -> str:
        if "@" in index:
            raise ValueError(
                "an address with a user or a password would stay in the image's history; name the "
                "index in the host's /etc/pip.conf instead, which stays in no layer"
            )
        return index

    @field_validator("service_env")
    @classmethod
    def _refuse_variables_that_belong_elsewhere(cls, variables: dict[str, str]) -> dict[str, str]:
        for name, value in variables.items():
            if name in SECRET_NAMES:
                raise ValueError(f"{name} is a secret: give it in secrets, not in service_env")
            if name in OWNED_BY_DEPLOY:
                raise ValueError(f"{name} cannot be set here: {OWNED_BY_DEPLOY[name]}")
            if not (re.fullmatch(r"SESAME_[A-Z0-9_]+", name) or name in FOREIGN_NAMES):
                raise ValueError(
                    f"{name} is no variable of the service: they begin with SESAME_, or are "
                    + ", ".join(FOREIGN_NAMES)
                )
            if re.search(r"['\x00-\x1f\x7f]", value):
                raise ValueError(f"{name} holds a quote or a control character: remove it")
        try:
            TypeAdapter(bool).validate_python(variables.get("SESAME_ENABLED", "true"))
        except ValidationError:
            value = variables["SESAME_ENABLED"]
            raise ValueError(f"SESAME_ENABLED={value} is neither true nor false") from None
        return variables

    @field_validator("secrets")
    @classmethod
    def _refuse_unknown_and_weak_secrets(
        cls, secrets: dict[str, SecretStr]
    ) -> dict[str, SecretStr]:
        for name, secret in secrets.items():
            value = secret.get_secret_value()
            if name not in SECRET_NAMES:
                raise ValueError(f"{name} is no secret of the service: {', '.join(SECRET_NAMES)}")
            if not re.fullmatch(r"[!-~]+", value):
                raise ValueError(f"{name} must be printable ASCII without spaces")
            if len(value) < SHORTEST_SECRET:
                way_out = (
                    "openssl rand -hex 32 makes one"
                    if name == "SESAME_SERVER_KEY"
                    else "copy the whole key, or leave it out where none is wanted"
                )
                raise ValueError(
                    f"{name} has {len(value)} characters, at least {SHORTEST_SECRET} are "
                    f"needed: {way_out}"
                )
        return secrets

    @model_validator(mode="after")
    def _refuse_a_source_without_its_place(self) -> Self:
        for source, setting in (("folder", "model_folder"), ("mirror", "model_mirror")):
            if self.model_source == source and getattr(self, setting) is None:
                raise ValueError(f"model_source={source}, and it is not said which: give {setting}")
        return self

    @model_validator(mode="after")
    def _refuse_a_required_model_from_nowhere(self) -> Self:
        if self.model == "required" and self.source_of_model is None and not self.online:
            raise ValueError(
                "model=required, and there is none: give model_token=env:HF_TOKEN to fetch it from "
                "the hub, or model_folder=/path/to/csm-1b, or model=auto to go on with the basic "
                "voice"
            )
        return self

    @model_validator(mode="after")
    def _refuse_a_model_that_nothing_would_run(self) -> Self:
        if self.online and (self.model == "required" or self.model_folder is not None):
            given = f"model_folder={self.model_folder}" if self.model_folder else "model=required"
            raise ValueError(
                f"SESAME_MODE=online and {given}: the primary voice is at SESAME_URL then, and no "
                f"model runs here; leave {given.partition('=')[0]} out, or set SESAME_MODE=offline"
            )
        return self

    @model_validator(mode="after")
    def _refuse_two_folders_of_voices(self) -> Self:
        if self.voices_folder and "SESAME_VOICES_DIR" in self.service_env:
            raise ValueError(
                f"voices_folder={self.voices_folder} and service_env: SESAME_VOICES_DIR: the "
                "personas are mounted where the deploy says; leave SESAME_VOICES_DIR out"
            )
        return self

    @model_validator(mode="after")
    def _refuse_what_belongs_to_the_other_mode(self) -> Self:
        if self.online:
            return self
        if self.service_env.get("SESAME_URL"):
            raise ValueError(
                "service_env: SESAME_URL says where the primary voice is with SESAME_MODE=online, "
                "and the mode is offline: set SESAME_MODE too, or set public_host for the address "
                "that stands in maya.env"
            )
        if "SESAME_API_KEY" in self.secrets:
            raise ValueError(
                "secrets: SESAME_API_KEY is shown to SESAME_URL with SESAME_MODE=online, and the "
                "mode is offline: for the key that callers must show give SESAME_SERVER_KEY, for "
                "Hugging Face's token HF_TOKEN"
            )
        return self

    @model_validator(mode="after")
    def _refuse_a_public_bind_without_a_key(self) -> Self:
        if not self.bind.is_loopback and "SESAME_SERVER_KEY" not in self.secrets:
            raise ValueError(
                f"bind={self.bind} publishes the voice beyond this host and no key guards it: give "
                'secrets={"SESAME_SERVER_KEY": "env:SESAME_SERVER_KEY"} too, or keep bind=127.0.0.1'
            )
        return self

    @property
    def enabled(self) -> bool:
        """Whether the voice is to run at all (the guide's ``SESAME_ENABLED``)."""
        return TypeAdapter(bool).validate_python(self.service_env.get("SESAME_ENABLED", "true"))

    @property
    def source_of_model(self) -> Literal["hub", "mirror", "folder"] | None:
        """Where the model comes from, or None where nothing says so."""
        if self.model_source != "auto":
            return self.model_source
        if self.model_folder is not None:
            return "folder"
        if self.model_mirror is not None:
            return "mirror"
        return "hub" if self.model_token or self.model_manifest else None

    @property
    def online(self) -> bool:
        """Whether the primary voice is elsewhere (the guide's ``SESAME_MODE``)."""
        return self.service_env.get("SESAME_MODE") == "online"

    @property
    def local_host(self) -> str:
        """Host part of a URL that reaches the voice from the host itself."""
        if self.bind.is_unspecified:
            return "127.0.0.1" if self.bind.version == 4 else "[::1]"
        return f"[{self.bind}]" if self.bind.version == 6 else str(self.bind)

    @property
    def local_url(self) -> str:
        """Where the checks reach the voice, on the host itself."""
        return f"http://{self.local_host}:{self.port}"

    @property
    def public_url(self) -> str:
        """Where Maya's backend and people reach the voice."""
        if self.public_host:
            host = self.public_host
        elif self.bind.is_loopback or self.bind.is_unspecified:
            host = "localhost"
        else:
            host = self.local_host
        return f"http://{host}:{self.port}"

    @classmethod
    def of(cls, host: Host) -> Self:
        """Read the settings of one host.

        Raises:
            DeployError: a setting is wrong or misspelled; the message names each one, its value
                unless it may be secret, and the way out.
        """
        return cls.read(host.data.dict(), name=host.name)

    @classmethod
    def read(cls, data: Mapping[str, Any], *, name: str) -> Self:
        """Read settings from host data that may hold entries of other programs too."""
        refusals = list(_misspellings(data, cls.model_fields))
        try:
            settings = cls(**{key: data[key] for key in cls.model_fields if key in data})
        except ValidationError as error:
            refusals += _explain(error, data)
        if refusals:
            raise DeployError(f"The settings of {name} cannot be used.\n" + "\n".join(refusals))
        return settings


def _misspellings(data: Mapping[str, Any], known: Mapping[str, object]) -> list[str]:
    """Name each entry that is no setting but looks like one."""
    return [
        f"  {key}: there is no such setting; did you mean {matches[0]}?"
        for key in sorted(data)
        if key not in known and (matches := difflib.get_close_matches(key, known, n=1, cutoff=0.75))
    ]


def _explain(error: ValidationError, data: Mapping[str, Any]) -> list[str]:
    """Turn pydantic's errors into lines of setting, value, rule and way out."""
    lines = []
    for detail in error.errors(include_url=False):
        rule = detail["msg"].removeprefix("Value error, ")
        if not detail["loc"]:
            lines.append(f"  {rule}")
            continue
        setting = str(detail["loc"][0])
        value = str(data[setting])
        secret = setting in {"secrets", "service_env", "model_token"} or re.search("://.*@", value)
        shown = setting if secret else f"{setting}={value}"
        lines.append(f"  {shown}: {rule}; {WAYS_OUT[setting]}")
    return lines
