"""Facts and operations held against data files, a file a case, in the form of pyinfra's own tests.

A fact's file holds ``arg, command, output, fact``; an operation's ``kwargs, facts, commands``.
"""

from pathlib import Path

import pytest
from pyinfra.api import FactBase
from pyinfra_testing.facts import make_fact_tests
from pyinfra_testing.operations import make_operation_tests

from provision import facts, operations

# pyinfra's test generator leaves closing its data files to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

HERE = Path(__file__).parent
HELD_BY_PLANS = {
    "ensure_files",
    "fetch_model",
    "install_release",
    "place_voices",
    "start_release",
    "take_model",
    "configure_daemon",
    "upload_model",
}
"""Their arguments are files, which the golden plans hold."""

for folder in sorted((HERE / "facts").iterdir()):
    case = make_fact_tests("provision", f"facts.{folder.name}", folder)
    globals()[case.__name__] = case

for folder in sorted((HERE / "operations").iterdir()):
    case = make_operation_tests("provision", f"operations.{folder.name}", folder)
    case.__name__ = f"Operation{folder.name}"
    globals()[case.__name__] = case
del case


def public(module: object, base: type | None = None) -> set[str]:
    return {
        name
        for name, thing in vars(module).items()
        if (base is not None and isinstance(thing, type) and issubclass(thing, base))
        or (base is None and hasattr(thing, "_inner"))
    }


def test_every_fact_has_cases() -> None:
    known = {folder.name for folder in (HERE / "facts").iterdir()}
    assert public(facts, FactBase) - {"Listeners"} == known


def test_every_operation_has_cases() -> None:
    known = {folder.name for folder in (HERE / "operations").iterdir()}
    assert public(operations) - HELD_BY_PLANS == known
