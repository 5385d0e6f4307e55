"""Draw the README's picture of the page: python -m tests.browser.picture FILE."""

import sys
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

from service.app import create_app
from service.settings import ServiceSettings
from tests.browser.conftest import chromium_path
from tests.service.serving import serving

SAID = {
    "Warm": "Good evening. Shall we go on where we stopped?",
    "Maya": "Hello. I am Maya, and I speak from a machine of your own.",
}


def draw(target: Path) -> None:
    """Speak with the real basic voice, and take the picture while the last text is heard."""
    with (
        serving(create_app(ServiceSettings(model=""))) as client,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium_path())
        page = browser.new_page(viewport={"width": 1180, "height": 880}, device_scale_factor=1.25)
        page.goto(str(client.base_url))
        for heard, (voice, text) in enumerate(SAID.items(), start=1):
            page.get_by_role("radio", name=voice).and_(
                page.locator(f"[value={voice.lower()}]")
            ).check()
            page.get_by_label("What shall I say?").fill(text)
            page.keyboard.press("Control+Enter")
            expect(page.locator("#lately li")).to_have_count(heard)
            if heard < len(SAID):
                expect(page.locator("#status")).to_contain_text("Said")
        # Far enough for the playhead to be seen; nothing on the page says when.
        page.wait_for_timeout(1_800)
        page.locator("#text").blur()
        page.screenshot(path=target, full_page=True)
        browser.close()


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
