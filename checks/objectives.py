"""What a latency may be at most: names, defaults, and how a person writes them.

Knows nothing of how a latency is measured.
"""

import math
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

UNITS = MappingProxyType(
    {"first_byte": "ms", "first_audio": "ms", "total": "ms", "real_time_factor": ""}
)
"""The figures of a latency and their units; a real-time factor has none."""

PERCENTILES = MappingProxyType({"p50": 50, "p95": 95})

GUIDE = MappingProxyType({"first_audio_p95_ms": 400.0})
"""Sesame's deployment guide: "Low-latency audio generation (~400ms locally)", said of a GPU."""


class ObjectiveError(ValueError):
    """No objective can be read from what was given; the message is for the person."""


def keys(figure: str) -> tuple[str, ...]:
    """Return the percentiles of a figure with its unit, as reports name them: `p50_ms`, `p50`."""
    unit = UNITS[figure]
    return tuple(f"{percentile}_{unit}" if unit else percentile for percentile in PERCENTILES)


NAMES = tuple(f"{figure}_{key}" for figure in UNITS for key in keys(figure))
"""`first_byte_p50_ms` to `real_time_factor_p95`."""


def parse(written: Sequence[str]) -> dict[str, float]:
    """Return the objectives in `NAME=VALUE` words; of a name given twice, the last.

    Raises `ObjectiveError`.
    """
    found = {}
    for word in written:
        name, equals, value = word.partition("=")
        if not equals:
            raise ObjectiveError(f"an objective is NAME=VALUE, as in {NAMES[3]}=400: {word!r}")
        try:
            number: object = float(value)
        except ValueError:
            number = value
        found[_known(name)] = _limit(name, number)
    return found


def read(path: Path) -> dict[str, float]:
    """Return the objectives in a TOML file of `NAME = VALUE` lines. Raises `ObjectiveError`."""
    try:
        written: Mapping[str, object] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ObjectiveError(f"cannot read {path}: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ObjectiveError(f"{path} is no TOML file: {error}") from error
    return {_known(name): _limit(name, value) for name, value in written.items()}


def _known(name: str) -> str:
    if name not in NAMES:
        raise ObjectiveError(f"there is no objective {name!r}; there are: {', '.join(NAMES)}")
    return name


def _limit(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ObjectiveError(f"{name} is a number above 0: {value!r}")
    return float(value)
