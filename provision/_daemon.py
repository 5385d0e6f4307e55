"""Docker's configuration: what a deploy wants in it, merged into what is there.

Pure functions over a text. Knows nothing of pyinfra, nor of who reads the file.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from provision._docker import Refusal

DAEMON_FILE = "/etc/docker/daemon.json"
BACKUP_FILE = f"{DAEMON_FILE}.sesame-csm-backup"

RELOADABLE = frozenset(
    {
        "authorization-plugins",
        "debug",
        "default-runtime",
        "features",
        "insecure-registries",
        "labels",
        "live-restore",
        "max-concurrent-downloads",
        "max-concurrent-uploads",
        "max-download-attempts",
        "registry-mirrors",
        "runtimes",
        "shutdown-timeout",
    }
)
"""Settings that a running daemon takes over at SIGHUP; the rest waits for a new start. The list is
"Configuration reload behavior" of docs.docker.com/reference/cli/dockerd."""

BELONGS_TO = {"log-opts": "log-driver"}
"""Settings that have a meaning only beside a certain value of another one: where somebody else
chose the latter, the former is left out too. Docker refuses the options of one driver to another.
"""

OUR_DAEMON: Mapping[str, Any] = {
    "live-restore": True,
    "log-driver": "json-file",
    "log-opts": {"max-size": "10m", "max-file": "3"},
}
"""What an engine that a deploy has installed is told: containers outlive the daemon, and no log of
a container fills the disk."""


@dataclass(frozen=True, slots=True)
class Merged:
    """A configuration with what is wanted in it.

    ``changed`` names the settings that differ from what was there; ``kept`` says of each wanted
    value that somebody else has set otherwise.
    """

    text: str
    changed: tuple[str, ...]
    kept: tuple[str, ...]

    @property
    def needs_restart(self) -> bool:
        """Whether a running daemon takes a part of it only at a new start."""
        return not RELOADABLE.issuperset(self.changed)

    @property
    def live_restore(self) -> bool:
        """Whether containers run on while the daemon is started again."""
        return json.loads(self.text).get("live-restore") is True


class _RepeatedError(Exception):
    """A name that stands twice in one table."""


def merge_daemon(existing: str | None, wanted: Mapping[str, Any]) -> Merged | Refusal:
    """Merge what is wanted into a configuration; whatever somebody else has set stays.

    Args:
        existing: the text of the file, or None where there is none.
        wanted: settings, of which tables are merged entry by entry.
    """
    before = _read(existing or "")
    if isinstance(before, Refusal):
        return before
    kept: list[str] = []
    after = _merge(before, _without_orphans(before, wanted), (), kept)
    changed = tuple(name for name in after if after[name] != before.get(name))
    text = json.dumps(after, indent=2, ensure_ascii=False) + "\n"
    return Merged(text, changed, tuple(kept))


def _read(text: str) -> dict[str, Any] | Refusal:
    if text.startswith("\ufeff"):
        return _refuse("begins with a byte order mark", 1, "save it as UTF-8 without one")
    if not text.strip():
        return {}
    try:
        read = json.loads(text, object_pairs_hook=_table)
    except json.JSONDecodeError as error:
        return _refuse(f"is not JSON: {error.msg}", error.lineno, "mend it, or move it away")
    except _RepeatedError as error:
        line = _last_line_with(str(error), text)
        return _refuse(f"names {error} twice", line, "leave one of the two")
    if not isinstance(read, dict):
        return _refuse("holds no table of settings", 1, 'begin it with "{", or move it away')
    return read


def _refuse(fault: str, line: int, remedy: str) -> Refusal:
    return Refusal(f"{DAEMON_FILE}, line {line}: the file {fault}", f"{remedy}, then deploy again")


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for name, value in pairs:
        if name in table:
            raise _RepeatedError(name)
        table[name] = value
    return table


def _last_line_with(name: str, text: str) -> int:
    found = re.compile(rf"{re.escape(json.dumps(name))}\s*:")
    return max(
        (number for number, line in enumerate(text.splitlines(), 1) if found.search(line)),
        default=1,
    )


def _without_orphans(before: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in wanted.items()
        if (owner := BELONGS_TO.get(name)) is None
        or before.get(owner, wanted.get(owner)) == wanted.get(owner)
    }


def _merge(
    before: Mapping[str, Any], wanted: Mapping[str, Any], path: tuple[str, ...], kept: list[str]
) -> dict[str, Any]:
    merged = dict(before)
    for name, value in wanted.items():
        place = (*path, name)
        if name not in merged:
            merged[name] = value
        elif isinstance(value, Mapping) and isinstance(merged[name], Mapping):
            merged[name] = _merge(merged[name], value, place, kept)
        elif merged[name] != value:
            found, ours = json.dumps(merged[name]), json.dumps(value)
            kept.append(f"{'.'.join(place)} stays {found}, {ours} was to be set")
    return merged
