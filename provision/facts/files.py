"""What a host's files hold."""

import re
import shlex
from typing import Any

from pyinfra.api import FactBase

STATE_OF_FILE = "stat -c '%a %u %s %.9Y'"
"""Prints what tells whether a file has changed since it was verified."""

STAMP = ".verified"


class FileStates(FactBase[dict[str, str]]):
    """Returns ``MODE OWNER SHA-256`` by path, of those files that exist.

    + paths: files
    """

    def command(self, paths: list[str]) -> str:
        listed = " ".join(shlex.quote(path) for path in paths)
        return (
            f'for path in {listed}; do if [ -f "$path" ]; then '
            'digest=$(sha256sum < "$path"); echo "$(stat -c "%a %u" "$path") ${digest%% *} $path"; '
            "fi; done"
        )

    @staticmethod
    def default() -> dict[str, str]:
        return {}

    def process(self, output: list[str]) -> dict[str, str]:
        states = {}
        for line in output:
            mode, owner, digest, path = line.strip().split(" ", 3)
            states[path] = f"{mode} {owner} {digest}"
        return states


class PlacedFiles(FactBase[dict[str, dict[str, Any]]]):
    """Returns SHA-256 by path of those files that exist, read anew only where they have changed.

    A stamp in the folder (``.verified``) holds ``SHA-256 MODE OWNER SIZE MTIME PATH`` of each file
    that was verified; what differs from its line there is read.

    + folder: folder on the host
    + paths: files below it

    .. code:: python

        {"config.json": {"sha256": "9f86d0…", "stamped": True}}
    """

    def command(self, folder: str, paths: list[str]) -> str:
        listed = " ".join(shlex.quote(path) for path in paths)
        return (
            f"cd {shlex.quote(folder)} 2>/dev/null || exit 0; for path in {listed}; do "
            '[ -f "$path" ] || continue; '
            f'state="$({STATE_OF_FILE} "$path") $path"; '
            'digest=$(awk -v state="$state" '
            "'{digest = $1; sub(/^[^ ]+ /, \"\")} $0 == state {print digest; exit}' "
            f"{STAMP} 2>/dev/null); "
            'if [ -n "$digest" ]; then echo "$digest stamped $path"; '
            'else digest=$(sha256sum < "$path"); echo "${digest%% *} read $path"; fi; done'
        )

    @staticmethod
    def default() -> dict[str, dict[str, Any]]:
        return {}

    def process(self, output: list[str]) -> dict[str, dict[str, Any]]:
        lines = (line.strip().split(" ", 2) for line in output)
        return {
            path: {"sha256": digest, "stamped": known == "stamped"} for digest, known, path in lines
        }


class Certificates(FactBase[list[str]]):
    """Returns the SHA-256 of each certificate authority that an operator added to the host."""

    def command(self) -> str:
        return (
            "find /usr/local/share/ca-certificates -name '*.crt' -exec sha256sum {} + 2>/dev/null "
            "| cut -d' ' -f1 | sort"
        )

    @staticmethod
    def default() -> list[str]:
        return []

    def process(self, output: list[str]) -> list[str]:
        return [line.strip() for line in output]


class KeyFingerprint(FactBase[str | None]):
    """Returns the fingerprint of the first key in a keyring file, or None.

    + path: the file
    """

    def command(self, path: str) -> str:
        return (
            f"gpg --batch --show-keys --with-colons {shlex.quote(path)} 2>/dev/null "
            "| awk -F: '$1 == \"fpr\" {print $10; exit}'"
        )

    def requires_command(self, *_args: object, **_kwargs: object) -> str:
        return "gpg"

    def process(self, output: list[str]) -> str | None:
        return output[0].strip() if output else None


class FileSizes(FactBase[dict[str, int]]):
    """Returns the size in bytes by path, of those files that exist.

    + paths: files
    """

    def command(self, paths: list[str]) -> str:
        return f"stat -c '%s %n' {' '.join(map(shlex.quote, paths))} 2>/dev/null || true"

    @staticmethod
    def default() -> dict[str, int]:
        return {}

    def process(self, output: list[str]) -> dict[str, int]:
        lines = (line.strip().partition(" ") for line in output)
        return {path: int(size) for size, _, path in lines}


class Models(FactBase[list[str]]):
    """Returns the names of the models that a host holds, whole or not.

    + folder: where they lie
    """

    def command(self, folder: str) -> str:
        return f"ls -1 {shlex.quote(folder)} 2>/dev/null || true"

    @staticmethod
    def default() -> list[str]:
        return []

    def process(self, output: list[str]) -> list[str]:
        return [name for name in map(str.strip, output) if re.fullmatch("[0-9a-f]{12}", name)]
