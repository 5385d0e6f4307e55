"""Docker's configuration: what a deploy wants in it, merged into what is there.

Pure functions over a text. Knows nothing of pyinfra.
"""

import json
from collections.abc import Mapping
from typing import Any

DAEMON_FILE = "/etc/docker/daemon.json"


def merge_daemon(existing: str | None, wanted: Mapping[str, Any]) -> str | None:
    """Return the text with what is wanted in it, or None when it is there."""
    before: dict[str, Any] = json.loads(existing) if existing else {}
    after = _merge(before, wanted)
    return None if after == before else json.dumps(after, indent=2) + "\n"


def _merge(before: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(before)
    for name, value in wanted.items():
        old = merged.get(name)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            merged[name] = _merge(old, value)
        else:
            merged[name] = value
    return merged
