"""Packages, and the keys that sign them."""

import posixpath
import re
import shlex
from collections.abc import Sequence

from pyinfra import host
from pyinfra.api import operation
from pyinfra.facts.deb import DebPackages

from provision import facts
from provision._apt import (
    APT_GET,
    DPKG_OPTIONS,
    PATIENTLY,
    SET_ASIDE,
    UPDATE,
    comment_out,
    install_known_lines,
    install_lines,
)
from provision._docker import version_pattern
from provision._proxy import PROXIES
from provision.operations.files import Commands, script, told_script


@operation()
def ensure_packages(packages: Sequence[str]) -> Commands:
    """Install packages that are missing, and refresh the package lists only then.

    + packages: names of the packages
    """
    installed = host.get_fact(DebPackages)
    missing = [package for package in packages if package not in installed]
    if not missing:
        host.noop(f"{', '.join(packages)}: installed")
        return
    yield told_script(*install_lines(missing))


@operation()
def ensure_package_versions(packages: Sequence[str], version: str) -> Commands:
    """Install packages that belong together, all in one version, newer or older than what is there.

    + packages: names of the packages
    + version: their version, as apt names it
    """
    installed = host.get_fact(DebPackages)
    if all(version in installed.get(package, ()) for package in packages):
        host.noop(f"{', '.join(packages)}: {version}")
        return
    wanted = [f"{package}={version}" for package in packages]
    yield told_script(
        "(",
        *install_lines(wanted, " --allow-downgrades"),
        f") || {{ echo 'These versions of {packages[0]} can be had:' >&2; "
        f"apt-cache madison {packages[0]} | awk '{{print \"  \" $3, $6}}' >&2; exit 1; }}",
    )


@operation()
def ensure_engine_version(packages: Sequence[str], version: str, foreign_release: str) -> Commands:
    """Install one version of Docker's engine, newer or older than what is there.

    + packages: names of the packages that have it, of which a distribution may lack the later ones
    + version: such as ``29.1.3``
    + foreign_release: release that apt may not take it from, or an empty text
    """
    installed = host.get_fact(DebPackages)
    pattern = version_pattern(version)
    found = [name for package in packages for name in installed.get(package, ())]
    if found and all(re.match(pattern, name) for name in found):
        host.noop(f"Docker {version}: installed")
        return
    yield told_script(
        *UPDATE,
        "wanted=",
        f"for package in {' '.join(packages)}; do",
        f"  whole=$(apt-cache madison $package 2>/dev/null | awk '$3 ~ /{pattern}/ && "
        f"$6 !~ /^{foreign_release}\\// {{print $3; exit}}')",
        '  [ -z "$whole" ] || wanted="$wanted $package=$whole"',
        "done",
        'if [ -z "$wanted" ]; then',
        f"  echo 'docker_version={version} is not where Docker comes from; versions that are:' >&2",
        f"  apt-cache madison {packages[0]} "
        f"| awk '$6 !~ /^{foreign_release}\\// {{print \"  \" $3}}' >&2",
        "  exit 1",
        "fi",
        *install_known_lines("$wanted", " --allow-downgrades"),
    )


@operation()
def mend_packages() -> Commands:
    """Finish what an interrupted installation has left half done, without which apt does nothing.

    + nothing is removed for it; where that would be needed, dpkg's words are told
    """
    half = host.get_fact(facts.HalfInstalled)
    if not list(half):
        host.noop("no package is half installed")
        return
    yield told_script(
        *PROXIES,
        *PATIENTLY,
        f"patiently env DEBIAN_FRONTEND=noninteractive dpkg {DPKG_OPTIONS} --configure -a "
        "|| words=$(cat $said)",
        f"if ! patiently env {APT_GET} --fix-broken install -q -y --no-remove || "
        f"! patiently env DEBIAN_FRONTEND=noninteractive dpkg {DPKG_OPTIONS} --configure -a; then",
        "  printf '%s\\n' \"${words-}\" >&2",
        "  cat $said >&2",
        "  echo 'The packages that are half installed cannot be finished. Mend what dpkg says "
        "above, or remove them: dpkg --audit lists them. Then deploy again.' >&2",
        "  exit 1",
        "fi",
        "cat $said",
        "rm -f $said",
    )


@operation()
def remove_packages(packages: Sequence[str]) -> Commands:
    """Remove packages that cannot be beside those that come; their configuration stays.

    + packages: names of packages that the survey has found to be in nobody's use
    """
    installed = host.get_fact(DebPackages)
    there = [package for package in packages if package in installed]
    if not there:
        host.noop("nothing stands in the way of Docker's packages")
        return
    yield told_script(
        *PATIENTLY,
        f"patiently env {APT_GET} remove -q -y {' '.join(there)} || {{ cat $said >&2; exit 1; }}",
        "cat $said",
        "rm -f $said",
    )


@operation()
def disable_other_sources(address: str, keep: str) -> Commands:
    """Take other entries of a repository out of force, which one file of ours names.

    Apt reads nothing at all while two entries sign one repository with two keys. The entries are
    commented out, and each file is kept beside as it was.

    + address: part of the repository's address
    + keep: the file that stays
    """
    named = host.get_fact(facts.AptSourceFiles, address=address)
    others = [path for path in named if path != keep]
    if not others:
        host.noop(f"{address}: no other file names it")
        return
    for path in others:
        place, backup = shlex.quote(path), shlex.quote(f"{path}{SET_ASIDE}")
        yield script(
            f"[ -e {backup} ] || cp -p {place} {backup}",
            comment_out(address, place, paragraphs=path.endswith(".sources")),
        )


@operation()
def ensure_signing_key(url: str, path: str, fingerprint: str) -> Commands:
    """Download a repository's signing key and keep it only when its fingerprint is the pinned one.

    + url: where the key is
    + path: where apt looks for it
    + fingerprint: 40 hexadecimal digits
    """
    if host.get_fact(facts.KeyFingerprint, path=path) == fingerprint:
        host.noop(f"{path}: the pinned key")
        return
    half = f"{path}.half"
    yield script(
        *PROXIES,
        f"install -d -m 755 {posixpath.dirname(path)}",
        f"curl -fsSL --max-time 60 -o {half} {url}",
        f"found=$(gpg --batch --show-keys --with-colons {half} "
        "| awk -F: '$1 == \"fpr\" {print $10; exit}')",
        f'if [ "$found" != {fingerprint} ]; then rm -f {half}; '
        f'echo "{url} is signed by $found, not by the pinned {fingerprint}: refused" >&2; '
        "exit 1; fi",
        f"chmod 644 {half}",
        f"mv -f {half} {path}",
    )
