"""The page as people meet it, in a real browser before a real service."""

import asyncio
import io
import threading
import wave
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Locator, expect
from pydantic import SecretStr

from service.app import create_app
from service.audio import Samples
from service.engines.engine import EngineState, SpeechRequest
from service.settings import ServiceSettings
from tests.browser.conftest import Visit, Visiting
from tests.service.rungs import Rung, broken, tone
from tests.service.serving import serving

pytestmark = pytest.mark.browser

TEXT = "A short word, said aloud."
KEY = "k3y-ключ"
PHONE: dict[str, Any] = {
    "viewport": {"width": 360, "height": 740},
    "has_touch": True,
    "is_mobile": True,
    "color_scheme": "dark",
}

COLOURS = "(canvas) => new Set(new Uint32Array(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.buffer)).size"  # noqa: E501 (one expression)


class Hesitant(Rung):
    """Speaks a second, and another one when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.goes_on = threading.Event()

    async def speak(self, request: SpeechRequest) -> AsyncGenerator[Samples]:
        del request
        yield tone(1.0)
        await asyncio.to_thread(self.goes_on.wait)
        yield tone(1.0)


def said(visit: Visit, text: str = TEXT) -> Locator:
    """Speak to the end, and give what the page keeps of it."""
    visit.speak(text)
    expect(visit.page.locator("#status")).to_contain_text("Said")
    return visit.page.locator("#lately li").first


def test_what_is_typed_is_heard(basic: httpx.Client, visiting: Visiting) -> None:
    visit = visiting(basic)
    visit.speak(TEXT)
    visit.hears(0.05)


def test_speech_is_heard_while_it_is_being_made(
    endless: tuple[Rung, httpx.Client], visiting: Visiting
) -> None:
    rung, client = endless
    visit = visiting(client)
    visit.speak(TEXT)
    visit.hears(0.3)
    assert not rung.ended.is_set()


def test_speech_that_runs_dry_goes_on_when_more_comes(visiting: Visiting) -> None:
    rung = Hesitant()
    with serving(create_app(ServiceSettings(), [rung])) as client:
        visit = visiting(client)
        visit.speak(TEXT)
        expect(visit.page.locator("#status")).to_have_text("Waiting for the rest …")
        rung.goes_on.set()
        expect(visit.page.locator("#status")).to_have_text("Said: 2.0 s of speech.")


def test_the_badge_says_who_spoke(basic: httpx.Client, visiting: Visiting) -> None:
    visit = visiting(basic)
    said(visit)
    expect(visit.page.locator("#spoke")).to_have_text("🟠 Basic Voice")
    expect(visit.page.locator("#spoken dl")).to_contain_text("espeak-ng:en-us+f3")


@pytest.mark.parametrize(
    ("engine", "badge"),
    [("csm", "🟢 Sesame Local"), ("remote", "🔵 Sesame API"), ("elevenlabs", "🟠 ElevenLabs")],
)
def test_every_engine_has_its_badge(engine: str, badge: str, visiting: Visiting) -> None:
    with serving(create_app(ServiceSettings(), [Rung(tone(1.0), name=engine)])) as client:
        visit = visiting(client)
        said(visit)
        expect(visit.page.locator("#spoke")).to_have_text(badge)
        expect(visit.page.locator("#standing")).to_have_text(badge)


def test_who_was_tried_first_is_told(visiting: Visiting) -> None:
    rungs = [broken("csm"), Rung(tone(1.0))]
    with serving(create_app(ServiceSettings(), rungs)) as client:
        visit = visiting(client)
        said(visit)
        expect(visit.page.locator("#spoken dl")).to_contain_text("csm=")


def test_how_soon_it_was_heard_and_made_is_told(basic: httpx.Client, visiting: Visiting) -> None:
    visit = visiting(basic)
    said(visit)
    facts = visit.page.locator("#spoken dl")
    for fact in ("First heard", "First made", "Length"):
        expect(facts).to_contain_text(fact)


def test_the_waveform_is_drawn(basic: httpx.Client, visiting: Visiting) -> None:
    visit = visiting(basic)
    canvas = visit.page.locator("#waveform")
    before = canvas.evaluate(COLOURS)
    said(visit)
    assert canvas.evaluate(COLOURS) > before


def test_an_utterance_is_downloaded_as_a_wav_of_its_length(visiting: Visiting) -> None:
    with serving(create_app(ServiceSettings(), [Rung(tone(0.5), tone(0.75))])) as client:
        visit = visiting(client)
        row = said(visit)
        with visit.page.expect_download() as download:
            row.get_by_role("button", name="Download").click()
        content = Path(download.value.path()).read_bytes()
    assert download.value.suggested_filename == "maya.wav"
    with wave.open(io.BytesIO(content)) as recording:
        assert recording.getparams()[:4] == (1, 2, 24_000, 30_000)


def test_an_utterance_is_replayed_without_asking_again(
    basic: httpx.Client, visiting: Visiting
) -> None:
    visit = visiting(basic)
    row = said(visit)
    asked = len([one for one in visit.requests if one.method == "POST"])
    visit.page.evaluate("window.heard = 0")
    row.get_by_role("button", name="Play").click()
    visit.hears(0.05)
    assert len([one for one in visit.requests if one.method == "POST"]) == asked


def test_an_utterance_is_dropped(basic: httpx.Client, visiting: Visiting) -> None:
    visit = visiting(basic)
    said(visit).get_by_role("button", name="Remove").click()
    expect(visit.page.locator("#lately li")).to_have_count(0)


def test_the_last_five_are_kept(visiting: Visiting) -> None:
    with serving(create_app(ServiceSettings(), [Rung(tone(1.0))])) as client:
        visit = visiting(client)
        for number in range(6):
            expect(said(visit, f"Number {number}")).to_contain_text(f"Number {number}")
        expect(visit.page.locator("#lately li")).to_have_count(5)


@pytest.mark.parametrize("how", ["key", "button"])
def test_stop_ends_the_work(
    how: str, endless: tuple[Rung, httpx.Client], visiting: Visiting
) -> None:
    rung, client = endless
    visit = visiting(client)
    visit.speak(TEXT)
    visit.comes_to("speaking")
    if how == "key":
        visit.page.keyboard.press("Escape")
    else:
        visit.page.get_by_role("button", name="Stop").click()
    visit.comes_to("idle")
    assert rung.ended.wait(10)
    expect(visit.page.locator("#lately li")).to_contain_text("stopped")


def test_a_voice_that_breaks_off_is_told(visiting: Visiting) -> None:
    rung = Rung(tone(1.0), error=RuntimeError("out of breath"))
    with serving(create_app(ServiceSettings(), [rung])) as client:
        visit = visiting(client)
        visit.speak(TEXT)
        visit.comes_to("failed")
        expect(visit.page.get_by_role("alert")).to_contain_text("broke off")


def test_an_error_of_the_service_is_shown_with_its_hint(visiting: Visiting) -> None:
    with serving(create_app(ServiceSettings(), [broken()])) as client:
        visit = visiting(client)
        visit.speak(TEXT)
        visit.comes_to("failed")
        expect(visit.page.get_by_role("alert")).to_contain_text("try again in 10 s")


def test_a_text_that_is_too_long_is_refused_with_the_limit(
    basic: httpx.Client, visiting: Visiting
) -> None:
    visit = visiting(basic)
    visit.speak("o" * 5_001)
    visit.comes_to("failed")
    expect(visit.page.get_by_role("alert")).to_contain_text("5000")
    expect(visit.page.locator("#counter")).to_have_text("5,001 of 5,000")


def test_a_service_that_is_gone_is_told(visiting: Visiting) -> None:
    with serving(create_app(ServiceSettings(), [Rung(tone(1.0))])) as client:
        visit = visiting(client)
    visit.speak(TEXT)
    visit.comes_to("failed")
    expect(visit.page.get_by_role("alert")).to_contain_text("does not answer")


def test_an_offline_voice_is_told_with_the_reason(visiting: Visiting) -> None:
    off = Rung(state=EngineState("off", "espeak-ng is not installed"))
    with serving(create_app(ServiceSettings(), [off])) as client:
        visit = visiting(client)
        expect(visit.page.locator("#standing")).to_have_text("🔴 Voice Offline")
        expect(visit.page.locator("#rungs li")).to_contain_text("espeak-ng is not installed")


def test_a_loading_model_is_told_with_its_progress(visiting: Visiting) -> None:
    rungs = [Rung(name="csm", state=EngineState("loading", "reading csm-1b, 7 s in")), Rung(tone())]
    with serving(create_app(ServiceSettings(), rungs)) as client:
        visit = visiting(client)
        expect(visit.page.locator("#outage")).to_contain_text("reading csm-1b, 7 s in")


def test_a_voice_that_comes_back_is_noticed(visiting: Visiting) -> None:
    rung = Rung(tone(1.0), state=EngineState("off", "resting"))
    with serving(create_app(ServiceSettings(), [rung])) as client:
        visit = visiting(client)
        rung.state = EngineState("ready")
        expect(visit.page.locator("#standing")).to_have_text("🟠 Basic Voice")
        expect(visit.page.locator("#outage")).to_be_hidden()


def test_health_is_asked_while_the_page_is_seen(basic: httpx.Client, visiting: Visiting) -> None:
    visit = visiting(basic)
    visit.page.clock.install()
    visit.open()
    visit.requests.clear()
    with visit.page.expect_request("**/health"):
        visit.page.clock.run_for(60_000)


def test_health_is_not_asked_while_the_page_is_hidden(
    basic: httpx.Client, visiting: Visiting
) -> None:
    visit = visiting(basic)
    visit.page.clock.install()
    visit.open()
    visit.page.evaluate(
        "Object.defineProperty(document, 'hidden', {value: true});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    visit.requests.clear()
    visit.page.clock.run_for(60_000)
    assert not visit.requests


def test_the_key_is_asked_for_and_shown_in_a_header_only(visiting: Visiting) -> None:
    settings = ServiceSettings(server_key=SecretStr(KEY))
    with serving(create_app(settings, [Rung(tone(1.0))])) as client:
        visit = visiting(client)
        dialog = visit.page.get_by_role("dialog")
        dialog.get_by_label("Key", exact=True).fill("wrong")
        visit.page.keyboard.press("Enter")
        expect(dialog).to_contain_text("This key was refused")
        dialog.get_by_label("Key", exact=True).fill(KEY)
        visit.page.keyboard.press("Enter")
        expect(dialog).to_be_hidden()
        said(visit)
    assert not any("k3y" in request.url for request in visit.requests)


@pytest.mark.parametrize(("ticked", "asked_again"), [(False, True), (True, False)])
def test_the_key_outlives_a_reload_only_when_that_is_ticked(
    ticked: bool, asked_again: bool, visiting: Visiting
) -> None:
    settings = ServiceSettings(server_key=SecretStr(KEY))
    with serving(create_app(settings, [Rung(tone(1.0))])) as client:
        visit = visiting(client)
        dialog = visit.page.get_by_role("dialog")
        dialog.get_by_label("Key", exact=True).fill(KEY)
        dialog.get_by_label("Keep it").set_checked(ticked)
        dialog.get_by_role("button", name="Use this key").click()
        expect(dialog).to_be_hidden()
        visit.open()
        if asked_again:
            expect(dialog).to_be_visible()
        else:
            expect(visit.page.locator(".voice")).to_have_count(4)


def test_the_chosen_voice_and_settings_are_asked_for(
    basic: httpx.Client, visiting: Visiting
) -> None:
    visit = visiting(basic)
    visit.page.get_by_role("radio", name="Warm lower").check()
    visit.page.get_by_label("Speed").fill("1.5")
    visit.page.get_by_text("More", exact=True).click()
    visit.page.get_by_label("Seed").fill("7")
    said(visit)
    [asked] = [request.post_data_json for request in visit.requests if request.method == "POST"]
    assert asked == {
        "text": TEXT,
        "voice": "warm",
        "speed": 1.5,
        "seed": 7,
        "stream": True,
        "format": "pcm",
        "sample_rate": 24_000,
    }


def test_everything_is_done_with_the_keyboard(basic: httpx.Client, visiting: Visiting) -> None:
    visit = visiting(basic)
    reached = []
    for _ in range(12):
        visit.page.keyboard.press("Tab")
        reached.append(
            visit.page.evaluate("document.activeElement.id || document.activeElement.textContent")
        )
    for name in ("text", "Greeting", "speed", "More", "speak"):
        assert name in reached
    visit.page.focus("#speak")
    visit.page.keyboard.press("Enter")
    expect(visit.page.locator("#status")).to_contain_text("Said")


def test_a_value_out_of_its_range_is_shown_even_in_the_closed_fold(
    basic: httpx.Client, visiting: Visiting
) -> None:
    visit = visiting(basic)
    visit.page.get_by_text("More", exact=True).click()
    visit.page.get_by_label("Temperature").fill("3")
    visit.page.get_by_text("More", exact=True).click()
    visit.speak(TEXT)
    expect(visit.page.get_by_label("Temperature")).to_be_focused()
    assert not [request for request in visit.requests if request.method == "POST"]


def test_what_has_the_focus_shows_it(basic: httpx.Client, visiting: Visiting) -> None:
    visit = visiting(basic)
    visit.page.keyboard.press("Tab")
    while visit.page.evaluate("document.activeElement !== document.body"):
        assert visit.page.evaluate(
            """() => {
              const shows = (element) => {
                const { outlineStyle, boxShadow } = getComputedStyle(element);
                return outlineStyle !== "none" || boxShadow.includes("0px 0px 0px 2px");
              };
              const focused = document.activeElement;
              return [focused, focused.closest(".card, .voice")].some((one) => one && shows(one));
            }"""
        ), visit.page.evaluate("document.activeElement.outerHTML")
        visit.page.keyboard.press("Tab")


@pytest.mark.parametrize("options", [{}, PHONE], ids=["desktop", "phone"])
def test_nothing_scrolls_sideways(
    options: dict[str, Any], basic: httpx.Client, visiting: Visiting
) -> None:
    visit = visiting(basic, **options)
    visit.speak(f"{'unbroken' * 30} {TEXT}")
    expect(visit.page.locator("#lately li")).to_have_count(1)
    assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(scheme: str, basic: httpx.Client, visiting: Visiting) -> None:
    visit = visiting(basic, color_scheme=scheme, reduced_motion="reduce")
    said(visit)
    assert visit.page.evaluate(CONTRASTS) == []


CONTRASTS = """() => {
  const parsed = (colour) => colour.match(/[0-9.]+/g).map(Number);
  const linear = (part) => (part / 255 <= .04045 ? part / 255 / 12.92 : ((part / 255 + .055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => .2126 * linear(r) + .7152 * linear(g) + .0722 * linear(b);
  const ground = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const colour = parsed(getComputedStyle(one).backgroundColor);
      if (colour[3] !== 0) return colour;
    }
    return [255, 255, 255];
  };
  const low = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || !element.checkVisibility()) continue;
    const pair = [light(parsed(getComputedStyle(element).color)), light(ground(element))];
    const ratio = (Math.max(...pair) + .05) / (Math.min(...pair) + .05);
    if (ratio < 4.5) low.push(`${element.outerHTML.slice(0, 80)} ${ratio.toFixed(2)}`);
  }
  return low;
}"""  # noqa: E501 (the formula of WCAG 2.2, on one line)


def test_everything_that_can_be_used_has_a_name(basic: httpx.Client, visiting: Visiting) -> None:
    visit = visiting(basic)
    said(visit)
    for role in ("button", "textbox", "radio", "slider", "spinbutton"):
        for element in visit.page.get_by_role(role).all():
            name = element.aria_snapshot()
            assert '"' in name, name


def test_who_prefers_less_motion_sees_none(basic: httpx.Client, visiting: Visiting) -> None:
    visit = visiting(basic, reduced_motion="reduce")
    said(visit)
    assert visit.page.evaluate("document.getAnimations().length") == 0


def test_the_page_asks_nobody_else_and_breaks_no_rule(
    basic: httpx.Client, visiting: Visiting
) -> None:
    visit = visiting(basic)
    row = said(visit)
    row.get_by_role("button", name="Play").click()
    visit.comes_to("speaking")
    assert visit.hosts == {basic.base_url.netloc.decode()}
    assert visit.complaints == []
    assert visit.page.evaluate("window.violations") == []


def test_the_list_of_routes_asks_nobody_else(basic: httpx.Client, visiting: Visiting) -> None:
    visit = visiting(basic)
    visit.page.goto(f"{visit.address}/docs")
    route = visit.page.locator("details", has_text="/api/v1/generate").first
    route.locator("summary").click()
    expect(route).to_contain_text("sample_rate")
    expect(route).to_contain_text("text_too_long")
    assert visit.hosts == {basic.base_url.netloc.decode()}
    assert visit.complaints == []
