"""What the check settles about a host and all later stages follow. Data, without pyinfra."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from provision._distribution import Distribution
from provision._docker import DockerSource
from provision._handing import Seed
from provision._image import Variant
from provision._model import CsmEngine
from provision._toolkit import Toolkit
from provision._voices import Voices
from provision.settings import DeploySettings


@dataclass(frozen=True, slots=True)
class DockerPlan:
    """What is changed about a host's Docker beyond what a bare host needs.

    ``source`` is where Docker comes from, ``version`` the one of the engine that apt is held to, if
    any; ``unpins`` says that an earlier deploy has held it. ``daemon`` is merged into Docker's
    configuration, if anything. ``installs`` says that packages are missing, ``ours`` that the
    engine is brought by a deploy. ``removed`` are packages in nobody's use. ``disables_sources``:
    entries of Docker's repository other than ours contradict.
    """

    source: DockerSource
    installs: bool
    ours: bool
    daemon: Mapping[str, Any] = field(default_factory=dict)
    removed: tuple[str, ...] = ()
    disables_sources: bool = False
    version: str | None = None
    unpins: bool = False


@dataclass(frozen=True, slots=True)
class HostPlan:
    """What has been settled about a host that passed its check."""

    settings: DeploySettings
    distribution: Distribution
    architecture: str
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
    docker: DockerPlan
