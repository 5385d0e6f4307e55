"""What the tests of the service share: one real service, and the back end of async tests."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.app import create_app
from service.csm import random_checkpoint
from service.settings import ServiceSettings
from service.voices import Personas, load_personas
from tests.service.held import HeldEspeak
from tests.service.serving import serving


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def voice() -> Iterator[httpx.Client]:
    """Serve with the real basic voice, behind a real socket."""
    with serving(create_app(ServiceSettings(model="", cache_bytes=0))) as client:
        yield client


@pytest.fixture(scope="session")
def personas() -> Personas:
    return load_personas()


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("csm")
    random_checkpoint.write(folder, random_checkpoint.SIZES["tiny"], clips=0.25)
    return folder


@pytest.fixture
def held_espeak(tmp_path: Path) -> Iterator[HeldEspeak]:
    held = HeldEspeak(tmp_path)
    yield held
    held.close()
