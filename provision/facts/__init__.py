"""What a host is and what it runs. pyinfra facts only: they read, and a bare host can be read."""

from provision.facts.docker import (
    Container,
    DaemonConfiguration,
    DaemonProxy,
    DockerEngine,
    Image,
    Occupants,
    Swarm,
)
from provision.facts.files import (
    STAMP,
    STATE_OF_FILE,
    Certificates,
    FileSizes,
    FileStates,
    KeyFingerprint,
    Models,
    PlacedFiles,
)
from provision.facts.gpu import (
    NO_PROOF,
    DeviceProof,
    GpuInside,
    Nvidia,
    NvidiaHook,
    PackageVersions,
)
from provision.facts.machine import FreeDisk, Listeners, Privilege, Resources, SocketOwner
from provision.facts.network import (
    AptFault,
    AptRepositories,
    AptSourceFiles,
    PackageIndex,
    Unreachable,
)
from provision.facts.packages import HalfInstalled, KnownVersions
from provision.facts.voice import VoiceReport

__all__ = [
    "NO_PROOF",
    "STAMP",
    "STATE_OF_FILE",
    "AptFault",
    "AptRepositories",
    "AptSourceFiles",
    "Certificates",
    "Container",
    "DaemonConfiguration",
    "DaemonProxy",
    "DeviceProof",
    "DockerEngine",
    "FileSizes",
    "FileStates",
    "FreeDisk",
    "GpuInside",
    "HalfInstalled",
    "Image",
    "KeyFingerprint",
    "KnownVersions",
    "Listeners",
    "Models",
    "Nvidia",
    "NvidiaHook",
    "Occupants",
    "PackageIndex",
    "PackageVersions",
    "PlacedFiles",
    "Privilege",
    "Resources",
    "SocketOwner",
    "Swarm",
    "Unreachable",
    "VoiceReport",
]
