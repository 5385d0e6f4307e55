"""Where a host's packages come from, and which addresses answer it."""

import shlex

from pyinfra.api import FactBase

from provision._apt import comment_out, entry_pattern
from provision._docker import DOCKER_ADDRESS
from provision._proxy import PROXIES

NETWORK_TIMEOUT_SECONDS = 10


LIST_REPOSITORIES = "apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages'"


class AptRepositories(FactBase[list[tuple[str, str]]]):
    """Returns the address and the release of each package repository of apt's.

    Two entries that contradict each other keep apt from reading any; then those of Docker's
    repository, which a deploy sets in order, are passed over.
    """

    def command(self) -> str:
        lines = comment_out(DOCKER_ADDRESS, '"$copy"', paragraphs=False)
        paragraphs = comment_out(DOCKER_ADDRESS, '"$copy"', paragraphs=True)
        return (
            f"{LIST_REPOSITORIES} 2>/dev/null || {{ place=$(mktemp -d); mkdir $place/parts; "
            "cp /etc/apt/sources.list $place 2>/dev/null; "
            "cp /etc/apt/sources.list.d/*.list $place/parts 2>/dev/null; "
            "cp /etc/apt/sources.list.d/*.sources $place/parts 2>/dev/null; "
            f"for copy in $place/sources.list $place/parts/*.list; do {lines}; done 2>/dev/null; "
            'for copy in $place/parts/*.sources; do [ -e "$copy" ] || continue; '
            f"{paragraphs}; done; "
            f"{LIST_REPOSITORIES} -o Dir::Etc::SourceList=$place/sources.list "
            "-o Dir::Etc::SourceParts=$place/parts 2>/dev/null; rm -rf $place; }"
        )

    def requires_command(self) -> str:
        return "apt-get"

    @staticmethod
    def default() -> list[tuple[str, str]]:
        return []

    def process(self, output: list[str]) -> list[tuple[str, str]]:
        repositories = []
        for line in output:
            uri, _, release = line.strip().partition(" ")
            if (uri, release) not in repositories:
                repositories.append((uri, release))
        return repositories


class AptFault(FactBase[str | None]):
    """Returns why apt cannot read its sources, in its own words, or None where it can."""

    def command(self) -> str:
        return "LC_ALL=C apt-get indextargets 2>&1 >/dev/null | grep ^E: | head -n 1; true"

    def requires_command(self) -> str:
        return "apt-get"

    def process(self, output: list[str]) -> str | None:
        return output[0].strip().removeprefix("E: ") or None


class AptSourceFiles(FactBase[list[str]]):
    """Returns apt's source files with an entry that is in force and names an address.

    + address: part of an address, such as ``nvidia.github.io/libnvidia-container``
    """

    def command(self, address: str) -> str:
        return (
            f"grep -ls {shlex.quote(entry_pattern(address))} /etc/apt/sources.list "
            "/etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; true"
        )

    @staticmethod
    def default() -> list[str]:
        return []

    def process(self, output: list[str]) -> list[str]:
        return [line.strip() for line in output]


class PackageIndex(FactBase[str | None]):
    """Returns the Python package index of the host's pip configuration, without password."""

    def command(self) -> str:
        return (
            "sed -n 's/^ *index-url *= *//p' /etc/pip.conf ~/.config/pip/pip.conf ~/.pip/pip.conf "
            "2>/dev/null | sed 's#//[^/@]*@#//#' | tail -n 1; true"
        )

    def process(self, output: list[str]) -> str | None:
        return output[-1].strip() or None


class Unreachable(FactBase[dict[str, str]]):
    """Returns the reason by address, of those addresses at which no server answers.

    The question travels as the host's packages do (apt's own client: its proxies, its time-outs).
    Whom to trust is settled later, by signatures; here only whether somebody answers.

    + urls: addresses
    """

    def command(self, urls: list[str]) -> str:
        client = (
            "/usr/lib/apt/apt-helper -o Acquire::Retries=0 "
            f"-o Acquire::http::Timeout={NETWORK_TIMEOUT_SECONDS} "
            f"-o Acquire::https::Timeout={NETWORK_TIMEOUT_SECONDS} "
            "-o Acquire::https::Verify-Peer=false -o Acquire::https::Verify-Host=false"
        )
        probes = "; ".join(
            f"({client} download-file {shlex.quote(url)} $place/{number} 2>&1 "
            f"| sed -n {shlex.quote(f's#^E: Failed to fetch [^ ]* *#{number} #p')}) &"
            for number, url in enumerate(urls)
        ).replace("&;", "&")
        return "\n".join((*PROXIES, f"place=$(mktemp -d); {probes} wait; rm -rf $place"))

    @staticmethod
    def default() -> dict[str, str]:
        return {}

    def process(self, output: list[str]) -> dict[str, str]:
        answers = (line.strip().partition(" ")[::2] for line in output)
        # A registry asks even for its greeting who we are: that is an answer.
        return {number: why for number, why in answers if not why.startswith("401 ")}
