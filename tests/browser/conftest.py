"""A real browser before the real service, which hears what it plays and sees whom it asks."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, Page, Request, sync_playwright
from playwright.sync_api import expect as expect_that

from service.app import create_app
from service.settings import ServiceSettings
from tests.service.rungs import Rung, tone
from tests.service.serving import serving

DESKTOP = {"width": 1180, "height": 880}

# Set between the page and the loudspeaker before the page runs.
LISTEN = """
window.heard = 0;
const connect = AudioNode.prototype.connect;
AudioNode.prototype.connect = function (to, ...rest) {
  if (to instanceof AudioDestinationNode) {
    const ear = new AnalyserNode(this.context, { fftSize: 2048 });
    const samples = new Float32Array(ear.fftSize);
    connect.call(this, ear);
    setInterval(() => {
      ear.getFloatTimeDomainData(samples);
      window.heard = Math.max(window.heard, ...samples.map(Math.abs));
    }, 10);
  }
  return connect.call(this, to, ...rest);
};
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) =>
  window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""

HEARS = """(level) => new Promise((resolve, reject) => {
  setTimeout(() => reject(new Error(`the loudest was ${window.heard}`)), 8000);
  setInterval(() => window.heard > level && resolve(), 20);
})"""


def chromium_path() -> str:
    """Find the distribution's Chromium, or Chrome."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    assert found, "Chromium is missing: tests/prerequisites browser installs it"
    return found


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Start the distribution's Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path())
        yield browser
        browser.close()


@dataclass
class Visit:
    """One page in a browser of its own, and what it did beside what it shows."""

    page: Page
    address: str
    requests: list[Request] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    @property
    def hosts(self) -> set[str]:
        """Whom the page asked."""
        asked = (urlsplit(request.url) for request in self.requests)
        return {parts.netloc for parts in asked if parts.scheme not in {"blob", "data"}}

    def open(self) -> None:
        """Load the page, and wait until it can be used."""
        self.page.goto(self.address)
        expect_that(self.page.locator("#standing")).not_to_contain_text("Asking")

    def speak(self, text: str) -> None:
        """Type a text and press the keys that speak it."""
        self.page.get_by_label("What shall I say?").fill(text)
        self.page.keyboard.press("Control+Enter")

    def hears(self, level: float) -> None:
        """Wait until the loudspeaker was given more than a level, 0 to 1."""
        self.page.evaluate(HEARS, level)

    def comes_to(self, state: str) -> None:
        """Wait until the page is idle, waiting, speaking or failed."""
        expect_that(self.page.locator("body")).to_have_attribute("data-state", state)


Visiting = Callable[..., Visit]


@pytest.fixture
def visiting(chromium: Browser) -> Iterator[Visiting]:
    """Give what opens the page of a service, with options of Playwright's `new_context`."""
    contexts = []

    def visit(client: httpx.Client, **options: Any) -> Visit:
        context = chromium.new_context(**{"viewport": DESKTOP, **options})
        contexts.append(context)
        context.set_default_timeout(8_000)
        page = context.new_page()
        page.add_init_script(LISTEN)
        visited = Visit(page, str(client.base_url))
        page.on("request", lambda request: visited.requests.append(request))  # noqa: PLW0108 (Playwright marks the handler)
        page.on("pageerror", lambda error: visited.complaints.append(str(error)))
        page.on(
            "console",
            lambda message: (
                visited.complaints.append(message.text) if message.type == "error" else None
            ),
        )
        visited.open()
        return visited

    expect_that.set_options(timeout=8_000)
    yield visit
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def basic() -> Iterator[httpx.Client]:
    """Serve with the real basic voice."""
    with serving(create_app(ServiceSettings(model=""))) as client:
        yield client


@pytest.fixture
def endless() -> Iterator[tuple[Rung, httpx.Client]]:
    """Serve with an engine that speaks a second and then never goes on."""
    rung = Rung(tone(1.0), hangs=True)
    with serving(create_app(ServiceSettings(), [rung])) as client:
        yield rung, client
