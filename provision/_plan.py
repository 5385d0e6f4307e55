"""What the check settles about a host and all later stages follow. Data, without pyinfra."""

from dataclasses import dataclass

from provision._distribution import Distribution
from provision._docker import DockerSource
from provision._handing import Seed
from provision._image import Variant
from provision._model import CsmEngine
from provision._toolkit import Toolkit
from provision._voices import Voices
from provision.settings import DeploySettings


@dataclass(frozen=True, slots=True)
class HostPlan:
    """What has been settled about a host that passed its check."""

    settings: DeploySettings
    distribution: Distribution
    architecture: str
    docker_source: DockerSource
    mirror: str | None
    security_mirror: str | None
    systemd: bool
    apparmor: bool
    base_image: str
    variant: Variant
    image: str
    engine: CsmEngine | None
    seed: Seed | None
    voices: Voices | None
    toolkit: Toolkit | None
