"""What a host is and what it runs. pyinfra facts only: they read, and a bare host can be read."""

from provision.facts.docker import Container, DockerEngine, Image
from provision.facts.files import (
    STATE_OF_FILE,
    Certificates,
    FileStates,
    KeyFingerprint,
    PlacedFiles,
)
from provision.facts.gpu import Nvidia
from provision.facts.machine import FreeDisk, Listeners, Privilege, Resources, SocketOwner
from provision.facts.network import AptRepositories, PackageIndex, Unreachable
from provision.facts.voice import VoiceReport

__all__ = [
    "STATE_OF_FILE",
    "AptRepositories",
    "Certificates",
    "Container",
    "DockerEngine",
    "FileStates",
    "FreeDisk",
    "Image",
    "KeyFingerprint",
    "Listeners",
    "Nvidia",
    "PackageIndex",
    "PlacedFiles",
    "Privilege",
    "Resources",
    "SocketOwner",
    "Unreachable",
    "VoiceReport",
]
