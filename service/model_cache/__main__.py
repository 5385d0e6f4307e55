"""The command: `python -m service.model_cache fill|verify|probe`, for a person and for a deploy.

It reads arguments and standard input, and tells the rest of the room what is wanted.
"""

import argparse
import json
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import httpx2

from service.model_cache import manifest as manifests
from service.model_cache.fill import Filled, fill
from service.model_cache.folder import Folder
from service.model_cache.hub import HUB_URL, Hub, is_repository
from service.model_cache.manifest import MANIFEST, Manifest, ManifestError
from service.model_cache.progress import teller
from service.model_cache.refusals import RefusedError
from service.model_cache.resolve import resolve
from service.model_cache.verify import find_faults, probe

__all__ = ["main"]

DONE, REFUSED, BAD_ARGUMENTS, LATER = 0, 1, 2, 3  # exit codes of fill
WHOLE, NOT_WHOLE, NOBODY_KNOWS = 0, 1, 2  # exit codes of verify
FINDINGS = {"ready": 0, "invalid": 1, "unreachable": 2}  # exit codes of probe
LONGEST_TOKEN = 4096
TOKEN = re.compile(r"[\x21-\x7e]+")
"""What can stand in a header."""

EPILOG = """\
exit status:
  fill    0 done · 1 refused, and trying again will not help · 2 bad arguments · 3 try again later
  verify  0 whole · 1 not whole · 2 nobody can tell
  probe   0 ready · 1 invalid · 2 unreachable

The last line on standard output is JSON; all else is on standard error. In a container:
  docker run --rm -i --user 0 -v /path/to/model:/model sesame-csm \\
    python -m service.model_cache fill --folder /model --token-stdin < TOKEN_FILE
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what is asked for, and return the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        if options.command == "verify":
            return _verify(options.folder, options.progress)
        wanted = _wanted(options, parser)
        with ExitStack() as stack:
            open_hub = _opener(options, parser, stack)
            if options.command == "probe":
                return _probe(wanted, open_hub)
            return _fill(options, wanted, open_hub)
    except RefusedError as refused:
        return _refuse(refused)
    except KeyboardInterrupt:
        sys.stderr.write("stopped; run it again to go on\n")
        _say({"ok": False, "refusal": "stopped", "again": True})
        return LATER


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m service.model_cache",
        description="Bring a folder to hold exactly the files of the model that the engine reads.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, says in (
        ("fill", "fetch what is missing, verify it, and say so"),
        ("probe", "ask whether the hub would give it; nothing is written"),
    ):
        command = commands.add_parser(name, help=says, description=says, allow_abbrev=False)
        _add_source(command)
    says = "read every file of the folder and hold it against the folder's manifest"
    command = commands.add_parser("verify", help=says, description=says, allow_abbrev=False)
    _add_folder(command)
    return parser


def _add_source(command: argparse.ArgumentParser) -> None:
    _add_folder(command)
    command.add_argument("--manifest", type=Path, help="of the files; by default CSM-1B's own")
    command.add_argument("--repository", help="such as sesame/csm-1b; its files are asked for")
    command.add_argument("--revision", help="commit, branch or tag of the repository")
    command.add_argument("--endpoint", default=HUB_URL, help="a mirror with the Hub's protocol")
    command.add_argument(
        "--token-stdin",
        action="store_true",
        help="read the token from standard input: one line, which may be empty",
    )


def _add_folder(command: argparse.ArgumentParser) -> None:
    command.add_argument("--folder", type=Path, required=True, help="where the model lies")
    command.add_argument(
        "--progress",
        choices=["auto", "bar", "lines"],
        default="auto",
        help="a bar, or lines for a log; auto: a bar on a terminal",
    )


class _Wanted:
    """Which model is wanted: the files of a manifest, or a repository at a revision."""

    def __init__(self, manifest: Manifest | None, repository: str, revision: str) -> None:
        self._manifest = manifest
        self._repository = repository
        self._revision = revision

    def choose(self, held: Manifest | None, open_hub: Callable[[], Hub]) -> Manifest:
        """Stay with what the folder holds if that is what is wanted; else ask."""
        if self._manifest is not None:
            return self._manifest
        if held is not None and held.answers(self._repository, self._revision):
            return held
        return self.ask(open_hub())

    def ask(self, hub: Hub) -> Manifest:
        """Give the manifest, from the hub if it must."""
        return self._manifest or resolve(hub, self._repository, self._revision)


def _wanted(options: argparse.Namespace, parser: argparse.ArgumentParser) -> _Wanted:
    if options.manifest is not None and (options.repository or options.revision):
        parser.error("--manifest names repository and revision itself: leave those away")
    if (options.repository is None) != (options.revision is None):
        parser.error("--repository and --revision go together: give both, or neither")
    if options.manifest is not None:
        return _Wanted(_read_manifest(options.manifest, parser), "", "")
    shipped = manifests.shipped()
    if options.repository is None or shipped.answers(options.repository, options.revision):
        return _Wanted(shipped, "", "")
    if not is_repository(options.repository):
        parser.error(f"--repository is not of the form NAME or OWNER/NAME: {options.repository}")
    if not options.revision.strip():
        parser.error("--revision is empty: give a commit, a branch or a tag")
    return _Wanted(None, options.repository, options.revision)


def _read_manifest(path: Path, parser: argparse.ArgumentParser) -> Manifest:
    try:
        return manifests.read(path)
    except OSError as error:
        parser.error(f"--manifest cannot be read: {path}: {error.strerror}")
    except ManifestError as error:
        parser.error(f"--manifest is no manifest: {path}: {error}")


def _opener(
    options: argparse.Namespace, parser: argparse.ArgumentParser, stack: ExitStack
) -> Callable[[], Hub]:
    """Give what opens the hub once, when it is needed, and closes it at the end."""
    endpoint = _endpoint(options.endpoint, parser)
    token = _read_token(parser) if options.token_stdin else None
    opened: list[Hub] = []

    def open_hub() -> Hub:
        if not opened:
            opened.append(stack.enter_context(Hub(endpoint, token)))
        return opened[0]

    return open_hub


def _endpoint(text: str, parser: argparse.ArgumentParser) -> str:
    try:
        url = httpx2.URL(text)
    except httpx2.InvalidURL:
        parser.error("--endpoint is no address: give one such as https://huggingface.co")
    if url.scheme not in ("http", "https") or not url.host:
        parser.error("--endpoint begins with http:// or https:// and names a host")
    if url.userinfo or url.query or url.fragment:
        # Not quoted: it may hold a password.
        parser.error("--endpoint takes no user, password, query or fragment")
    return text.rstrip("/")


def _read_token(parser: argparse.ArgumentParser) -> str | None:
    token = sys.stdin.readline(LONGEST_TOKEN).strip()
    if not token:
        return None
    if not TOKEN.fullmatch(token):
        parser.error("the token on standard input is no token: it holds spaces or odd characters")
    return token


def _fill(options: argparse.Namespace, wanted: _Wanted, open_hub: Callable[[], Hub]) -> int:
    begun = time.monotonic()
    with teller(options.progress) as tells:
        filled: Filled = fill(Folder(options.folder), wanted.choose, open_hub, tells)
    _say(
        {
            "ok": True,
            "files": len(filled.manifest.files),
            "fetched_bytes": filled.fetched_bytes,
            "seconds": round(time.monotonic() - begun, 1),
            "repository": filled.manifest.repository,
            "revision": filled.manifest.revision,
        }
    )
    return DONE


def _probe(wanted: _Wanted, open_hub: Callable[[], Hub]) -> int:
    found = probe(wanted.ask, open_hub)
    _say(asdict(found))
    return FINDINGS[found.finding]


def _verify(path: Path, progress: str) -> int:
    folder = Folder(path)
    manifest = folder.manifest()
    if manifest is None:
        sys.stderr.write(
            f"{path} holds no {MANIFEST} that can be read;"
            f" python -m service.model_cache fill --folder {path} writes one\n"
        )
        _say({"ok": False, "refusal": "no_manifest"})
        return NOBODY_KNOWS
    try:
        with teller("bar" if progress == "bar" else "lines") as tells:
            faults = find_faults(folder, manifest, tells)
    except OSError as error:
        sys.stderr.write(f"{error.filename or path} cannot be read: {error.strerror}\n")
        _say({"ok": False, "refusal": "unreadable"})
        return NOBODY_KNOWS
    for fault in faults:
        sys.stderr.write(f"{fault}\n")
    _say(
        {
            "ok": not faults,
            "files": len(manifest.files),
            "faults": faults,
            "revision": manifest.revision,
        }
    )
    return NOT_WHOLE if faults else WHOLE


def _refuse(refused: RefusedError) -> int:
    sys.stderr.write(f"{refused.what}\n  → {refused.next_step}\n")
    _say(
        {
            "ok": False,
            "refusal": refused.kind,
            "detail": refused.what,
            "next": refused.next_step,
            "again": refused.again,
        }
    )
    return LATER if refused.again else REFUSED


def _say(table: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(table, ensure_ascii=False) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    # What stops a container ends it as by hand: what has arrived stays.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
