"""Where the model's files are: a folder, or a snapshot in the Hugging Face cache.

It only looks; it fetches nothing and opens no weights.
"""

from dataclasses import dataclass
from pathlib import Path

from service.errors import EngineError

__all__ = ["Snapshot", "find_snapshot"]


@dataclass(frozen=True)
class Snapshot:
    """A folder in the transformers layout, and how it is called in health."""

    folder: Path
    name: str


def find_snapshot(model: str, revision: str, hf_home: Path) -> Snapshot:
    """Find the folder that `SESAME_MODEL` names.

    + model: a folder (absolute, or beginning with `.` or `~`), or a repository `owner/name`
    + revision: a commit, or a name that the cache knows; for a repository only
    + hf_home: the folder of the Hugging Face cache

    Raises EngineError that says what is missing and how to get it.
    """
    if model.startswith(("/", ".", "~")):
        return _folder(Path(model).expanduser())
    return _cached(model, revision, hf_home.expanduser())


def _folder(folder: Path) -> Snapshot:
    if not folder.is_dir():
        raise EngineError(
            f"SESAME_MODEL={folder} is no folder",
            "mount the model there, or name a repository of the Hugging Face cache",
        )
    return Snapshot(folder, folder.name)


def _cached(model: str, revision: str, hf_home: Path) -> Snapshot:
    # The cache's layout: huggingface_hub, "Understand caching".
    cache = hf_home / "hub" / f"models--{model.replace('/', '--')}"
    fetch = (
        f"accept its licence at https://huggingface.co/{model}, then run"
        f" `hf download {model} --include '*.json' 'transformers-*' 'prompts/*'` with HF_TOKEN set,"
        " or set SESAME_MODEL to a folder that holds it"
    )
    if not cache.is_dir():
        raise EngineError(f"{model} is not in the Hugging Face cache at {hf_home}", fetch)
    named = cache / "refs" / revision
    commit = named.read_text(encoding="ascii").strip() if named.is_file() else revision
    folder = cache / "snapshots" / commit
    if folder.is_dir():
        return Snapshot(folder, f"{model}@{commit}")
    there = sorted(path.name for path in cache.glob("snapshots/*"))
    if there:
        raise EngineError(
            f"{model} has no revision {revision} in the cache at {hf_home};"
            f" there is {', '.join(there)}",
            "set SESAME_MODEL_REVISION to one that is there, or fetch it",
        )
    # A download that was refused or broken off leaves the folder and no snapshot.
    raise EngineError(f"the download of {model} to {hf_home} was refused or broken off", fetch)
