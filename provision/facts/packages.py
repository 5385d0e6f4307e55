"""What keeps packages from being installed."""

import shlex

from pyinfra.api import FactBase


class HalfInstalled(FactBase[list[str]]):
    """Returns the packages that an interrupted or failed installation has left half done.

    Also ``dependencies`` where what is installed lacks something that it needs.
    """

    def command(self) -> str:
        # Without sources and a cache of its own apt checks what is installed, and writes nothing.
        return (
            "dpkg-query -W -f '${db:Status-Abbrev} ${Package}\\n' "
            "| awk '$1 ~ /^.[HUFWt]/ || $1 ~ /^..R/ {print $2}'; "
            "apt-get check -qq -o Debug::NoLocking=true -o Dir::Etc::SourceList=/dev/null "
            "-o Dir::Etc::SourceParts=/dev/null -o Dir::Cache::pkgcache= "
            "-o Dir::Cache::srcpkgcache= >/dev/null 2>&1 || echo dependencies"
        )

    def requires_command(self) -> str:
        return "dpkg-query"

    @staticmethod
    def default() -> list[str]:
        return []

    def process(self, output: list[str]) -> list[str]:
        return [line.strip() for line in output if line.strip()]


class KnownVersions(FactBase[list[str]]):
    """Returns the versions of a package that apt knows of, the newest first.

    + package: name of the package
    + foreign_release: release that apt may not take it from, or an empty text
    """

    def command(self, package: str, foreign_release: str) -> str:
        return (
            f"apt-cache madison {shlex.quote(package)} 2>/dev/null "
            f"| awk '$6 !~ /^{foreign_release}\\// {{print $3}}'; true"
        )

    def requires_command(self, *_args: object, **_kwargs: object) -> str:
        return "apt-cache"

    @staticmethod
    def default() -> list[str]:
        return []

    def process(self, output: list[str]) -> list[str]:
        return [line.strip() for line in output if line.strip()]
