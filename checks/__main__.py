"""The command line `python -m checks URL`: exits 0 all met, 1 not met, 2 could not tell."""

import argparse
import asyncio
import contextlib
import io
import logging
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from checks import objectives, progress
from checks.address import AddressError, normalise
from checks.latency import REQUESTS, Plan
from checks.objectives import ObjectiveError
from checks.output import OutputError, replacement
from checks.report import Report
from checks.run import CHECKS, run
from checks.table import show

KEY_VARIABLE = "SESAME_SERVER_KEY"
STANDARD_OUTPUT = "-"

_MOST_REQUESTS = 100

_EPILOG = f"""\
exit status:
  0  all met
  1  something is not met
  2  could not tell: unreachable, not this service, a key is missing, still loading, or full;
     a wrong command line also ends so

The server key, where one is demanded, comes from --key-file or from {KEY_VARIABLE}.
Every request is one that any client may send; nothing is changed on the service or on this host.
Where a cloud speaks, the groups speech and latency spend characters there; --drill spends what it
says first.
"""


class UsageError(Exception):
    """An option names what cannot be used; the message is for the person."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the checks that the command line names and return the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        base = normalise(options.url)
        key = _server_key(options.key_file)
        limits = _objectives(options)
        _refuse_one_output_twice(options.json, options.junit)
        _refuse_a_drill_without_its_group(options)
        with contextlib.ExitStack() as stack:
            write_json = _writer(stack, options.json)
            write_junit = _writer(stack, options.junit)
            bar = stack.enter_context(progress.shown_on(Console(stderr=True), "latency"))
            plan = Plan(options.latency_requests, limits, bar)
            report = asyncio.run(
                run(
                    base,
                    key=key,
                    time_limit=options.timeout,
                    only=options.only,
                    plan=plan,
                    drill=_announce if options.drill else None,
                )
            )
            write_json(report.to_json())
            write_junit(report.to_junit())
    except (AddressError, ObjectiveError, OutputError, UsageError) as error:
        parser.error(str(error))
    if STANDARD_OUTPUT not in (options.json, options.junit):
        _show(report, with_key=bool(key))
    return report.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m checks",
        description="Verify a speech service over HTTP, read-only.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("url", metavar="URL", help="the service, such as http://localhost:8000")
    parser.add_argument("--json", metavar="FILE", help="write the report as JSON; - is stdout")
    parser.add_argument("--junit", metavar="FILE", help="write it as JUnit XML; - is stdout")
    parser.add_argument("--key-file", metavar="FILE", type=Path, help="holds the server key")
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        default=30.0,
        help="for one answer (default: 30, as Maya's backend); a run takes at most 4 times as long",
    )
    parser.add_argument(
        "--only", metavar="NAME", nargs="+", choices=CHECKS, default=(), help=", ".join(CHECKS)
    )
    parser.add_argument(
        "--drill",
        action="store_true",
        help="have the service break each rung in turn; what that spends is said on stderr first",
    )
    parser.add_argument(
        "--latency-requests",
        metavar="N",
        type=_count,
        default=REQUESTS,
        help=f"how many to measure, after one to warm up (default: {REQUESTS})",
    )
    parser.add_argument(
        "--objective",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="what a latency may be at most, such as first_audio_p95_ms=400; may be repeated",
    )
    parser.add_argument(
        "--objectives", metavar="FILE", type=Path, help="a TOML file of such lines: NAME = VALUE"
    )
    return parser


def _count(text: str) -> int:
    if not (text.isdecimal() and 0 < int(text) <= _MOST_REQUESTS):
        raise argparse.ArgumentTypeError(f"a whole number from 1 to {_MOST_REQUESTS}: {text!r}")
    return int(text)


def _objectives(options: argparse.Namespace) -> dict[str, float]:
    """Return the limits of the file and of the command line, which wins."""
    limits = objectives.read(options.objectives) if options.objectives else {}
    limits |= objectives.parse(options.objective)
    if limits and options.only and "latency" not in options.only:
        raise UsageError(f"an objective needs the check latency, and --only is: {options.only}")
    return limits


def _refuse_a_drill_without_its_group(options: argparse.Namespace) -> None:
    if options.drill and options.only and "fallback" not in options.only:
        raise UsageError(f"a drill needs the check fallback, and --only is: {options.only}")


def _announce(what: str) -> None:
    sys.stderr.write(f"{what}\n")
    sys.stderr.flush()


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= 3600:
        raise argparse.ArgumentTypeError(f"seconds are a number above 0, at most 3600: {text!r}")
    return seconds


def _server_key(key_file: Path | None) -> str:
    """Return the key from the file, else from the environment, else nothing. Never shows it."""
    if key_file is None:
        source, text = KEY_VARIABLE, os.environ.get(KEY_VARIABLE, "")
    else:
        source = str(key_file)
        try:
            text = key_file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise UsageError(f"cannot read the key from {source}: {reason}") from error
    key = text.strip()
    if key_file is not None and not key:
        raise UsageError(f"the key file is empty: {source}")
    if not key.isprintable() or any(char.isspace() for char in key):
        raise UsageError(f"a key is one word on one line; it is not in: {source}")
    return key


def _refuse_one_output_twice(first: str | None, second: str | None) -> None:
    if first is None or second is None:
        return
    if first == second or Path(first).resolve() == Path(second).resolve():
        raise UsageError(f"--json and --junit need two different files: {first!r}")


def _writer(stack: contextlib.ExitStack, target: str | None) -> Callable[[str], None]:
    """Return what writes one result, having made sure that it can be written."""
    if target is None:
        return lambda _: None
    if target == STANDARD_OUTPUT:
        return _write_to_standard_output
    return stack.enter_context(replacement(Path(target))).write


def _write_to_standard_output(text: str) -> None:
    sys.stdout.buffer.write(text.encode())
    sys.stdout.buffer.flush()


def _show(report: Report, *, with_key: bool) -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    with contextlib.suppress(BrokenPipeError):
        console = Console(highlight=False, markup=False, emoji=False)
        show(report, console, with_key=with_key)


def _guarded_main() -> int:
    """Return `main`'s status; 2 for a failure of our own, which says nothing of the service."""
    try:
        return main()
    except KeyboardInterrupt:
        return 130
    except Exception:
        logging.getLogger("checks").exception("the checks failed themselves, nothing was found out")
        return 2


if __name__ == "__main__":
    sys.exit(_guarded_main())
