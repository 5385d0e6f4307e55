"""Run the speech service: `python -m service`. It only reads arguments and hands over."""

import argparse
import logging.config
import sys

import uvicorn

from service import __version__
from service.api.draining import Draining
from service.app import create_app
from service.connection import Connection
from service.engines.absent import Absent
from service.engines.engine import Engine
from service.errors import SettingsError
from service.logs import LOG_CONFIG
from service.serving import Server
from service.settings import ServiceSettings, read_settings
from service.voices import load_personas
from service.wiring import build_engines

__all__ = ["main"]

CUT_OFF, REFUSED = 1, 2  # exit codes


def main(arguments: list[str] | None = None) -> int:
    """Serve until told to stop, and return the exit code.

    0: all that was being spoken was finished; 1: something was cut off; 2: the settings are refused
    """
    options = _parser().parse_args(arguments)
    try:
        settings = read_settings()
        if options.check_settings:
            sys.stdout.write(_plan(settings))
            return 0
        draining = Draining(settings.grace_seconds)
        app = create_app(settings, draining=draining)
    except SettingsError as refused:
        sys.stderr.write(f"Sesame cannot be started with these settings:\n{refused}\n")
        return REFUSED
    logging.config.dictConfig(LOG_CONFIG)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        http=Connection,
    )
    Server(config, draining).run()
    return CUT_OFF if draining.cut_off else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m service", description="The speech service.")
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument(
        "--check-settings",
        action="store_true",
        help="say what the service would do, and exit: 0 when it would start, 2 when not",
    )
    return parser


def _plan(settings: ServiceSettings) -> str:
    """Say in a few lines what the settings mean; never the key."""
    personas = load_personas(settings.voices_dir)
    rungs = build_engines(settings, personas, instance="")
    hosts = sorted({rung.host for rung in rungs if rung.host is not None})
    lines = {
        "version": __version__,
        "mode": settings.mode,
        "rungs": ", ".join(map(_rung, rungs)) or "none: SESAME_ENABLED=false",
        "text goes": f"to {', '.join(hosts)}, if need be" if hosts else "nowhere: it stays here",
        "voices": ", ".join(personas),
        "bind": f"{settings.host}:{settings.port}",
        "server key": "required" if settings.server_key else "not required",
        "deadline": f"{settings.deadline_seconds:g} s to the first audio, "
        f"then {settings.stall_seconds:g} s between blocks",
    }
    told = [f"{name + ':':<12}{value}\n" for name, value in lines.items()]
    return "".join([*told, *(f"{'warning:':<12}{warning}\n" for warning in settings.warnings)])


def _rung(rung: Engine) -> str:
    return f"{rung.name} (off: {rung.state.reason})" if isinstance(rung, Absent) else rung.name


if __name__ == "__main__":
    sys.exit(main())
