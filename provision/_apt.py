"""What is said to apt, in shell: patiently, and in spite of sources that others have to mend.

Pure functions that return text. Knows nothing of pyinfra.
"""

import shlex
from collections.abc import Sequence

from provision._proxy import PROXIES

LOCK_TIMEOUT_SECONDS = 300

DPKG_OPTIONS = "--force-confdef --force-confold"
"""A configuration file that somebody has changed stays, and nobody is asked."""

APT_GET = (
    "DEBIAN_FRONTEND=noninteractive apt-get "
    f"-o DPkg::Lock::Timeout={LOCK_TIMEOUT_SECONDS} "
    + " ".join(f"-o Dpkg::Options::={option}" for option in DPKG_OPTIONS.split())
)

SET_ASIDE = ".sesame-csm.disabled"
"""What is added to the name of a file that is kept as it was; apt passes over it in silence."""

# Of DPkg::Lock::Timeout apt's own locks, on its lists and on its archives, know nothing.
PATIENTLY = (
    "said=$(mktemp)",
    "patiently() {",
    f"  for second in $(seq {LOCK_TIMEOUT_SECONDS}); do",
    '    LC_ALL=C "$@" > $said 2>&1 && return 0',
    "    grep -qE 'Could not get lock|locked by another process' $said || return 1",
    (
        "    if [ $second = 1 ]; then grep -hE '^E:|locked by' $said; "
        f"echo 'Waiting up to {LOCK_TIMEOUT_SECONDS} s until it ends.'; fi"
    ),
    "    sleep 1",
    "  done",
    "  return 1",
    "}",
)
"""A function of the shell that runs a command until no other program holds a lock it needs."""


# Before a function of the shell only "env" can give a command its variables.
PATIENT_APT_GET = f"patiently env {APT_GET}"

# Apt looks into its own configuration first; sudo hands it nothing of the environment.
UPDATE = (
    *PROXIES,
    *PATIENTLY,
    "faults=",
    f"{PATIENT_APT_GET} update -q || faults=$(grep -E '^[EW]:' $said || cat $said)",
)
"""Lines of the shell that refresh the lists of packages, and keep what apt finds wrong."""


def install_lines(packages: Sequence[str], options: str = "") -> tuple[str, ...]:
    """Return shell lines that refresh the lists of packages and install some.

    A source that does not answer, or is not signed as it should be, is no reason to stop: what is
    needed may be had elsewhere, or be known from an earlier day. Only when it cannot be had, apt's
    words about its sources are told. Nothing that is installed is ever removed for it.

    Args:
        packages: names, or ``NAME=VERSION``.
        options: further options of ``apt-get install``.
    """
    return (*UPDATE, *install_known_lines(" ".join(packages), options))


def install_known_lines(wanted: str, options: str = "") -> tuple[str, ...]:
    """Return the shell lines of ``install_lines`` that come after those of ``UPDATE``.

    Args:
        wanted: names with spaces between them, or a variable of the shell that holds them.
        options: further options of ``apt-get install``.
    """
    install = f"{PATIENT_APT_GET} install -q -y --no-install-recommends --no-remove{options}"
    return (
        f"if ! {install} {wanted}; then",
        "  cat $said >&2",
        (
            '  if [ -n "$faults" ]; then '
            "printf '%s\\n%s\\n' 'Before, apt-get update had said:' \"$faults\" >&2; fi"
        ),
        f'  echo "Not installed: {wanted}. Mend what apt says above, then deploy again." >&2',
        "  exit 1",
        "fi",
        "cat $said",
        (
            'if [ -n "$faults" ]; then printf '
            "'%s\\n%s\\n' 'Installed, although apt-get update says:' \"$faults\"; fi"
        ),
        "rm -f $said",
    )


def entry_pattern(address: str) -> str:
    """Return the basic regular expression of a line that names an address and is in force."""
    escaped = address.replace(".", r"\.")
    return f"^[^#]*{escaped}"


def comment_out(address: str, place: str, *, paragraphs: bool) -> str:
    """Return a shell command that takes the entries of an address in a source file out of force.

    Args:
        address: part of the address of a repository.
        place: the file, as a word of the shell.
        paragraphs: whether an entry is a paragraph, as in ``.sources``, instead of a line.
    """
    if not paragraphs:
        return f"sed -i {shlex.quote(f's,{entry_pattern(address)},# &,')} {place}"
    # Into the same file, whose mode and owner stay.
    return (
        f"entries=$(awk -v RS= -v ORS='\\n\\n' -v address={shlex.quote(address)} '{{"
        'named = 0; count = split($0, lines, "\\n"); for (number = 1; number <= count; number++) '
        "if (lines[number] !~ /^#/ && index(lines[number], address)) named = 1; "
        'if (named) {gsub(/\\n/, "\\n# "); $0 = "# " $0}; print}\' '
        f"{place}); printf '%s\\n' \"$entries\" > {place}"
    )
