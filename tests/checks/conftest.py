from collections.abc import Awaitable, Callable, Iterator

import pytest

from checks.report import Report, Result
from checks.run import run
from tests.checks.fake_service import FakeService, serving


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def fake() -> Iterator[FakeService]:
    """Serve what keeps the contract, until the test changes it."""
    with serving(FakeService()) as service:
        yield service


@pytest.fixture
def checked(fake: FakeService) -> Callable[..., Awaitable[Report]]:
    """Run the checks against `fake`; a time limit that a good answer never needs."""

    async def check(*only: str, key: str = "", time_limit: float = 5.0) -> Report:
        return await run(fake.url, key=key, time_limit=time_limit, only=only)

    return check


@pytest.fixture
def named() -> Callable[[Report, str], Result]:
    def find(report: Report, name: str) -> Result:
        return next(result for result in report.results if result.name == name)

    return find
