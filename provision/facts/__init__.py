"""What a host is and what it runs. pyinfra facts only: they read, and a bare host can be read."""

from provision.facts.docker import Container, DockerEngine, Image
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
from provision.facts.gpu import Nvidia
from provision.facts.machine import FreeDisk, Listeners, Privilege, Resources, SocketOwner
from provision.facts.network import AptRepositories, PackageIndex, Unreachable
from provision.facts.voice import VoiceReport

__all__ = [
    "STAMP",
    "STATE_OF_FILE",
    "AptRepositories",
    "Certificates",
    "Container",
    "DockerEngine",
    "FileSizes",
    "FileStates",
    "FreeDisk",
    "Image",
    "KeyFingerprint",
    "Listeners",
    "Models",
    "Nvidia",
    "PackageIndex",
    "PlacedFiles",
    "Privilege",
    "Resources",
    "SocketOwner",
    "Unreachable",
    "VoiceReport",
]
