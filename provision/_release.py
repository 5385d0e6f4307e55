"""What a release is: the files that are rendered onto a host, and one digest over them.

Pure functions over settings and templates. Knows nothing of pyinfra.
"""

import hashlib
from dataclasses import dataclass
from functools import partial

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from provision._gpu import DEVICES
from provision._image import PROJECT
from provision._model import CsmEngine, Model
from provision._voices import Voices
from provision.settings import SECRET_NAMES, DeploySettings

HOME = "/opt/sesame-csm"
MODELS = f"{HOME}/models"
COMPOSE_FILE = "docker-compose.sesame-offline.yml"
CONTAINER = "sesame-csm-offline"
CONTAINER_PORT = 8000
CONTAINER_USER = 10001
MODEL_MOUNT = "/models/csm"
"""Where the container finds its model."""

VOICES = f"{HOME}/voices"
VOICES_MOUNT = "/voices"
"""Where the container finds the operator's own personas."""

RELEASE_LABEL = "org.sesame-csm.release"


@dataclass(frozen=True, slots=True)
class ReleaseFile:
    """One file of a release: where it goes below ``HOME``, what it holds and who may read it."""

    path: str
    content: str
    mode: str = "644"
    owner: int = 0

    @property
    def state(self) -> str:
        """``MODE OWNER SHA-256``, as the fact ``FileStates`` tells it."""
        return f"{self.mode} {self.owner} {hashlib.sha256(self.content.encode()).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Release:
    """All files of one release and the digest that its container is labelled with."""

    files: tuple[ReleaseFile, ...]
    digest: str
    image: str

    @property
    def wanted(self) -> dict[str, str]:
        """State of each file by its path on the host."""
        return {f"{HOME}/{file.path}": file.state for file in self.files}

    @property
    def unwanted(self) -> list[str]:
        """Paths of secrets that this release no longer has."""
        kept = {file.path for file in self.files}
        return [f"{HOME}/secrets/{name}" for name in SECRET_NAMES if f"secrets/{name}" not in kept]

    @property
    def key_file(self) -> str | None:
        """Path on the host of the key that callers must show, if one is demanded."""
        path = "secrets/SESAME_SERVER_KEY"
        return f"{HOME}/{path}" if any(file.path == path for file in self.files) else None


def model_home(model: Model) -> str:
    """Return the folder of a model on a host. Its name is its content, so two never mix."""
    return f"{MODELS}/{model.digest}"


def voices_home(voices: Voices) -> str:
    """Return the folder of personas on a host. Its name is their content."""
    return f"{VOICES}/{voices.digest}"


def render_release(
    settings: DeploySettings,
    image: str,
    engine: CsmEngine | None = None,
    voices: Voices | None = None,
) -> Release:
    """Render every file of a release.

    Args:
        settings: what the host is to become.
        image: name and tag of the service image.
        engine: the model and what it runs on, or None where the basic voice speaks alone.
        voices: the operator's own personas, if there are any.
    """
    secrets = tuple(
        ReleaseFile(f"secrets/{name}", f"{value.get_secret_value()}\n", "400", CONTAINER_USER)
        for name, value in sorted(settings.secrets.items())
    )
    render = partial(_render, settings=settings, image=image, engine=engine, voices=voices)
    service = ReleaseFile("service.env", render("service.env.j2", release=""))
    unlabelled = render(f"{COMPOSE_FILE}.j2", release="")
    digest = hashlib.sha256()
    for part in (unlabelled, service.content, *(secret.content for secret in secrets)):
        digest.update(hashlib.sha256(part.encode()).digest())
    release = digest.hexdigest()[:16]
    compose = ReleaseFile(COMPOSE_FILE, render(f"{COMPOSE_FILE}.j2", release=release))
    maya = ReleaseFile("maya.env", render("maya.env.j2", release=release), "600")
    return Release((compose, service, maya, *secrets), release, image)


def _render(
    template: str,
    *,
    settings: DeploySettings,
    image: str,
    engine: CsmEngine | None,
    voices: Voices | None,
    release: str,
) -> str:
    environment = Environment(
        loader=FileSystemLoader(PROJECT / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 (YAML and environment files, from validated settings)
    )
    server_key = settings.secrets.get("SESAME_SERVER_KEY")
    return environment.get_template(template).render(
        settings=settings,
        image=image,
        engine=engine,
        model_home=model_home(engine.model) if engine else None,
        model_mount=MODEL_MOUNT,
        voices_home=voices_home(voices) if voices else None,
        voices_mount=VOICES_MOUNT,
        device=DEVICES[engine.accelerator] if engine else "cpu",
        release=release,
        release_label=RELEASE_LABEL,
        container=CONTAINER,
        container_port=CONTAINER_PORT,
        container_user=CONTAINER_USER,
        server_key=server_key.get_secret_value() if server_key else "local",
    )
