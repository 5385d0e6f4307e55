"""From what a repository holds to the manifest of what the engine reads of it.

It asks a hub for the small files that name the others, and fetches nothing large. What is no CSM
checkpoint is refused by name.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from service.model_cache.hub import Hub, Kept, Listing
from service.model_cache.manifest import Manifest, ManifestError, ModelFile
from service.model_cache.refusals import RefusedError

__all__ = ["resolve"]

CONFIGURATION = "config.json"
MODEL_TYPE = "csm"
TOKENIZER = "tokenizer.json"
OPTIONAL = "generation_config.json"
CLIPS = "prompts/*.wav"
INDEXES = ("transformers.safetensors.index.json", "model.safetensors.index.json")
"""Lists of the shards, in the order in which service/csm looks for them."""

SINGLE = "model.safetensors"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
NAMED = 12  # shards or pickles that a refusal names


def resolve(hub: Hub, repository: str, revision: str) -> Manifest:
    """Ask which files make up the model at a commit, branch or tag.

    The hub tells the SHA-256 of large files. Small ones it tells by their git blob id: they are
    read, held against it, and their SHA-256 is taken.

    Raises RefusedError.
    """
    listing = hub.listing(repository, revision)
    reader = _Reader(hub, repository, listing)
    _check_configuration(reader, listing.files)
    paths = [CONFIGURATION, *_weights(reader, listing.files), TOKENIZER]
    paths += [path for path in listing.files if path == OPTIONAL or fnmatchcase(path, CLIPS)]
    missing = [path for path in paths if path not in listing.files]
    if missing:
        raise reader.incomplete(f"it has no {_named(missing)}")
    manifest = Manifest(
        repository,
        listing.commit,
        tuple(reader.describe(path) for path in sorted(set(paths))),
        asked=revision if revision != listing.commit else None,
    )
    try:
        return Manifest.from_json(manifest.to_json())
    except ManifestError as error:
        raise reader.incomplete(str(error)) from None


def _check_configuration(reader: "_Reader", files: Mapping[str, Kept]) -> None:
    if CONFIGURATION not in files:
        raise reader.incomplete(f"it has no {CONFIGURATION}")
    kind = reader.table(CONFIGURATION).get("model_type")
    if kind is None:
        raise reader.refusal("original_format")
    if kind != MODEL_TYPE:
        raise reader.refusal("not_csm", found=repr(kind))


def _weights(reader: "_Reader", files: Mapping[str, Kept]) -> list[str]:
    index = next((name for name in INDEXES if name in files), None)
    if index is not None:
        return [index, *_shards(reader, index)]
    if SINGLE in files:
        return [SINGLE]
    pickles = sorted(path for path in files if any(fnmatchcase(path, form) for form in PICKLES))
    if pickles:
        raise reader.refusal("pickles", found=_named(pickles))
    raise reader.incomplete(f"it has neither {INDEXES[0]} nor {SINGLE}")


def _shards(reader: "_Reader", index: str) -> list[str]:
    weights = reader.table(index).get("weight_map")
    if not isinstance(weights, dict) or not weights:
        raise reader.incomplete(f"{index} lists no shards")
    names = sorted({str(name) for name in weights.values()})
    odd = [name for name in names if "/" in name or not name.endswith(".safetensors")]
    if odd:
        raise reader.incomplete(f"{index} lists what is no safetensors file beside it: {odd[0]}")
    return names


class _Reader:
    """Reads the small files of one repository at one commit."""

    def __init__(self, hub: Hub, repository: str, listing: Listing) -> None:
        self._hub = hub
        self._repository = repository
        self._listing = listing
        self._read: dict[str, bytes] = {}

    def table(self, path: str) -> dict[str, Any]:
        """Read a JSON object."""
        try:
            table = json.loads(self._content(path))
        except ValueError:
            table = None
        if not isinstance(table, dict):
            raise self.incomplete(f"{path} is no JSON object")
        return table

    def describe(self, path: str) -> ModelFile:
        """Give a file's size and SHA-256, as the hub tells it or as it was read."""
        kept = self._listing.files[path]
        if kept.size is not None and kept.sha256:
            return ModelFile(path, kept.size, kept.sha256)
        content = self._content(path)
        return ModelFile(path, len(content), hashlib.sha256(content).hexdigest())

    def refusal(self, kind: str, **found: object) -> RefusedError:
        return RefusedError(
            kind,
            host=self._hub.host,
            repository=self._repository,
            revision=self._listing.commit,
            **found,
        )

    def incomplete(self, found: str) -> RefusedError:
        return self.refusal("incomplete", found=found)

    def _content(self, path: str) -> bytes:
        if path not in self._read:
            content = self._hub.read(self._repository, self._listing.commit, path)
            self._check(path, content)
            self._read[path] = content
        return self._read[path]

    def _check(self, path: str, content: bytes) -> None:
        told = self._listing.files[path]
        digest = hashlib.sha256(content).hexdigest() if told.sha256 else _git_blob_id(content)
        if told.digest not in (None, digest):
            raise self.refusal("wrong_hash", path=path, found=digest)


def _git_blob_id(content: bytes) -> str:
    """Give the name that git has for a file's content."""
    header = b"blob %d\0" % len(content)
    return hashlib.sha1(header + content, usedforsecurity=False).hexdigest()


def _named(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - NAMED} more" if len(listed) > NAMED else ""
    return ", ".join(listed[:NAMED]) + more
