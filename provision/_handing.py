"""One host that builds for the others: whether what it has fits a host, and how it is kept.

Pure functions over what two hosts show, and a shelf of the deploying machine. Knows nothing of
pyinfra or of how anything travels.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from provision._docker import Refusal
from provision._image import Variant
from provision._model import CsmEngine, ModelFile
from provision._network import TORCH_CPU_INDEX
from provision._release import HOME

HANDING = f"{HOME}/handing"
"""Folder of a host for what is on its way."""


@dataclass(frozen=True, slots=True)
class Seed:
    """The host that the others take the image and the model from, as its own check settled it."""

    name: str
    architecture: str
    base_image: str
    variant: Variant
    image: str
    engine: CsmEngine | None

    @property
    def has(self) -> str:
        """What its image holds, in words."""
        if self.variant.target == "light":
            return "the light image"
        without = self.variant.torch_index == TORCH_CPU_INDEX
        return "the engine image without CUDA" if without else "the engine image"

    def refuse(self, architecture: str, engine: CsmEngine | None) -> Refusal | None:
        """Refuse a host that cannot use the image of this one.

        Args:
            architecture: of the host that takes.
            engine: the model and what it runs on there, or None where the basic voice speaks alone.
        """
        alone = "give this host another seed_host, or none, and it builds for itself"
        if architecture != self.architecture:
            return Refusal(
                f"seed_host={self.name} is {self.architecture}, this host {architecture}", alone
            )
        wanted = None
        if engine is None and self.variant.target == "engine":
            wanted = "light one: no model speaks here"
        elif engine is not None and self.variant.target == "light":
            wanted = "engine image for its model"
        elif engine is not None and engine.accelerator == "nvidia" and "without" in self.has:
            wanted = "one with CUDA for its GPU"
        if wanted is None:
            return None
        return Refusal(f"seed_host={self.name} has {self.has}, this host needs the {wanted}", alone)


@dataclass(frozen=True, slots=True)
class Archive:
    """An image as ``docker save`` writes it, packed with gzip.

    ``layers`` is the SHA-256 over the digests of its layers, which every engine counts alike; the
    identity of an image is another one where containerd keeps the images.
    """

    image: str
    seed: str
    layers: str
    size: int
    sha256: str

    @property
    def file(self) -> ModelFile:
        """The archive as a file that travels."""
        return ModelFile(f"image {self.image}", self.size, self.sha256)


class Shelf:
    """What hosts have handed over, on the deploying machine: ``images/`` and ``models/``.

    Whatever is there is read before it is trusted. All of it may be removed at any time.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or Path.home() / ".cache/sesame-csm"

    def image(self, image: str, identity: str) -> Path:
        """Return where the archive of an image is kept, by its tag and its identity on the seed."""
        return self.folder / "images" / f"{_short(image)}-{_short(identity)}.tar.gz"

    def model(self, digest: str) -> Path:
        """Return the folder in which a model's files are kept."""
        return self.folder / "models" / digest

    def find(self, image: str, identity: str) -> Archive | None:
        """Return the archive of an image that is here whole, or None."""
        place = self.image(image, identity)
        archive = _read_note(_note(place))
        return archive if archive is not None and is_whole(place, archive.file) else None

    def keep(self, place: Path, archive: Archive) -> None:
        """Note what an archive is, and remove the earlier ones of the same seed."""
        note = _note(place)
        for other in note.parent.glob("*.json"):
            earlier = _read_note(other)
            if other != note and (earlier is None or earlier.seed == archive.seed):
                other.with_name(f"{other.stem}.tar.gz").unlink(missing_ok=True)
                other.unlink()
        note.write_text(json.dumps(asdict(archive), indent=2) + "\n", encoding="utf-8")


def _short(name: str) -> str:
    return name.rpartition(":")[2][:12]


def _note(place: Path) -> Path:
    return place.with_name(place.name.removesuffix(".tar.gz") + ".json")


def _read_note(note: Path) -> Archive | None:
    try:
        return Archive(**json.loads(note.read_bytes()))
    except (OSError, TypeError, ValueError):
        return None


def is_whole(path: Path, file: ModelFile) -> bool:
    """Say whether a file is there with the right size and SHA-256."""
    try:
        if path.stat().st_size != file.size:
            return False
        with path.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest() == file.sha256
    except OSError:
        return False


def read_packed(line: str, image: str, seed: str) -> Archive:
    """Read what a seed says of an archive: ``SIZE SHA-256 LAYERS``.

    Raises:
        ValueError: it says something else.
    """
    size, sha256, layers = line.split()
    return Archive(image, seed, layers, int(size), sha256)
