"""What all tests share."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def open_hub() -> Iterator[None]:
    """Keep what one test builds from closing Hugging Face's library to the others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("service.wiring.close_hub", lambda: None)
        yield
