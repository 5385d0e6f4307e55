import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import httpx2
import numpy as np
import pytest

from service.audio import SAMPLE_RATE, Samples, is_silent
from service.engines.elevenlabs import ElevenLabsVoice
from service.engines.failures import FAILURES
from service.engines.huggingface import ROUTER_URL, HuggingFaceVoice
from service.errors import RungError
from service.voices import Personas
from tests.service.clouds import (
    ELEVENLABS_KEY,
    FAULTS,
    HF_TOKEN,
    MODEL,
    RATE,
    SARAH,
    UNREACHABLE,
    Act,
    Cloud,
    Fault,
    Held,
    Left,
    body,
    clouds,
    encoded,
    mp3,
    redirected,
    refused,
    status,
    unheard_port,
)
from tests.service.rungs import request_for

pytestmark = pytest.mark.anyio

Voice = HuggingFaceVoice | ElevenLabsVoice
RUNGS = ("huggingface", "elevenlabs")
TEXT = "Nobody else may read this sentence."
SUBSCRIPTION = "/v1/user/subscription"


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "HF_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    with clouds() as cloud:
        yield cloud


@pytest.fixture
def elsewhere() -> Iterator[Cloud]:
    with clouds() as cloud:
        yield cloud


def rung_at(name: str, url: str, personas: Personas, **changes: Any) -> Voice:
    """Give a rung that asks this server. Hugging Face: a dedicated endpoint there."""
    if name == "elevenlabs":
        return eleven(url, personas, **changes)
    return hub(url, personas, **({"endpoint": f"{url}/endpoint"} | changes))


def hub(
    url: str,
    personas: Personas,
    *,
    token: str = HF_TOKEN,
    model: str = MODEL,
    provider: str = "auto",
    endpoint: str | None = None,
    substitute: bool = True,
) -> HuggingFaceVoice:
    return HuggingFaceVoice(
        token, model, provider, endpoint, personas, substitute=substitute, hub=url, router=url
    )


def eleven(
    url: str,
    personas: Personas,
    *,
    key: str = ELEVENLABS_KEY,
    model: str = "eleven_flash_v2_5",
    voice_id: str | None = None,
    substitute: bool = True,
) -> ElevenLabsVoice:
    return ElevenLabsVoice(key, model, voice_id, url, personas, substitute=substitute)


@asynccontextmanager
async def started(voice: Voice) -> AsyncIterator[Voice]:
    await voice.start()
    try:
        yield voice
    finally:
        await voice.stop()


@pytest.fixture(params=RUNGS)
async def rung(
    request: pytest.FixtureRequest, cloud: Cloud, personas: Personas
) -> AsyncIterator[Voice]:
    async with started(rung_at(request.param, cloud.url, personas)) as voice:
        yield voice


async def spoken(voice: Voice, personas: Personas, persona: str = "maya") -> Samples:
    blocks = [block async for block in voice.speak(request_for(personas[persona], TEXT))]
    return np.concatenate(blocks)


async def failure(voice: Voice, personas: Personas) -> RungError:
    with pytest.raises(RungError) as caught:
        await spoken(voice, personas)
    return caught.value


def cases() -> Iterator[Any]:
    for name, fault in FAULTS.items():
        for rung in RUNGS:
            if not fault.only or rung in fault.only:
                yield pytest.param(rung, fault, id=f"{rung}-{name}")


@pytest.mark.parametrize(("name", "fault"), [*cases()])
async def test_every_fault_ends_in_its_class_with_a_next_step_and_without_a_secret(
    name: str, fault: Fault, cloud: Cloud, personas: Personas, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    cloud.act = fault.act
    async with started(rung_at(name, cloud.url, personas)) as voice:
        if fault.waits:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await spoken(voice, personas)
            return
        if fault.unheard:
            assert is_silent(await spoken(voice, personas))
            return
        error = await failure(voice, personas)
    assert (error.failure, error.outcome) == (fault.failure, fault.outcome or fault.failure)
    assert error.failure in FAILURES
    assert error.retry_after == fault.retry_after
    assert error.hint or FAILURES[error.failure].next_step
    said = f"{error.message} {error.hint} {caplog.text}"
    for secret in (HF_TOKEN, ELEVENLABS_KEY, TEXT, "LEAK"):
        assert secret not in said


@pytest.mark.parametrize("name", RUNGS)
@pytest.mark.parametrize(("address", "outcome"), [*UNREACHABLE.values()], ids=[*UNREACHABLE])
async def test_nobody_at_the_address_is_transient_and_says_why(
    name: str,
    address: Callable[[Cloud], str],
    outcome: str,
    cloud: Cloud,
    personas: Personas,
) -> None:
    async with started(rung_at(name, address(cloud), personas)) as voice:
        error = await failure(voice, personas)
    assert (error.failure, error.outcome) == ("transient", outcome)
    assert error.hint


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_nothing_follows_a_redirect(
    code: int, rung: Voice, cloud: Cloud, elsewhere: Cloud, personas: Personas
) -> None:
    cloud.act = redirected(code, f"{elsewhere.url}/endpoint")
    error = await failure(rung, personas)
    assert (error.failure, elsewhere.seen) == ("wrong_address", [])


async def test_one_try_asks_once(rung: Voice, cloud: Cloud, personas: Personas) -> None:
    cloud.act = status(500)
    await failure(rung, personas)
    assert len(cloud.seen) == 1


async def test_it_speaks_in_the_form_of_the_house(
    rung: Voice, cloud: Cloud, personas: Personas
) -> None:
    audio = await spoken(rung, personas)
    assert (str(audio.dtype), audio.size) == ("float32", 2 * SAMPLE_RATE)
    np.testing.assert_allclose(
        audio, np.frombuffer(cloud.kept, dtype="<i2") / np.float32(2**15), atol=1e-6
    )


@pytest.mark.parametrize("provider", ["auto", "fal-ai", "replicate", "deepinfra", "hf-inference"])
async def test_every_provider_speaks_with_the_voice_of_the_persona(
    provider: str, cloud: Cloud, personas: Personas
) -> None:
    async with started(hub(cloud.url, personas, provider=provider)) as voice:
        assert (await spoken(voice, personas)).size == 2 * SAMPLE_RATE
    (synthesis,) = cloud.syntheses
    assert b"af_heart" in synthesis.body
    assert TEXT.encode() in synthesis.body


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (encoded("flac", "flac"), "audio/flac"),
        (encoded("mp3", "libmp3lame"), "audio/mpeg"),
        (encoded("ogg", "libopus", 48_000), "audio/ogg"),
        (encoded("wav", "pcm_s16le", 16_000), "audio/x-wav"),
        (encoded("flac", "flac", 44_100), "application/octet-stream"),
    ],
    ids=["flac", "mp3", "opus", "wav", "unnamed"],
)
async def test_an_endpoint_may_answer_in_any_form(
    content: bytes, content_type: str, cloud: Cloud, personas: Personas
) -> None:
    cloud.act = body(content, content_type)
    async with started(rung_at("huggingface", cloud.url, personas)) as voice:
        audio = await spoken(voice, personas)
    assert audio.size == pytest.approx(2 * SAMPLE_RATE, rel=0.06)
    assert not is_silent(audio)


async def test_mp3_is_understood_where_pcm_was_asked_for(cloud: Cloud, personas: Personas) -> None:
    cloud.act = body(mp3(), "audio/mpeg")
    async with started(eleven(cloud.url, personas)) as voice:
        audio = await spoken(voice, personas)
    assert audio.size == pytest.approx(2 * SAMPLE_RATE, rel=0.06)
    assert 0.3 < np.abs(audio).max() < 0.7


async def test_the_first_block_comes_before_the_last_is_sent(
    cloud: Cloud, personas: Personas
) -> None:
    held = Held(cloud.kept[: RATE // 2])
    cloud.act = held
    async with (
        started(eleven(cloud.url, personas)) as voice,
        aclosing(voice.speak(request_for(personas["maya"], TEXT))) as blocks,
    ):
        first = await anext(blocks)
        held.go.set()
        rest = [block async for block in blocks]
    assert 0 < first.size <= RATE // 4
    assert first.size + sum(block.size for block in rest) == 2 * SAMPLE_RATE


async def left_early(voice: Voice, cloud: Cloud, personas: Personas) -> bool:
    """Cancel a rung that waits for an answer; tell whether its connection is closed then."""
    act = Left()
    cloud.act = act
    task = asyncio.create_task(spoken(voice, personas))
    await asyncio.to_thread(act.asked.wait, 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return await asyncio.to_thread(act.left.wait, 30)


async def test_leaving_early_closes_the_connection(
    rung: Voice, cloud: Cloud, personas: Personas
) -> None:
    assert await left_early(rung, cloud, personas)


async def test_leaving_early_frees_the_thread(cloud: Cloud, personas: Personas) -> None:
    async with started(rung_at("huggingface", cloud.url, personas)) as voice:
        for _ in range(2 * (voice.permits + 1)):
            await left_early(voice, cloud, personas)
        cloud.act = None
        assert (await spoken(voice, personas)).size


async def test_closing_after_the_first_block_closes_the_connection(
    cloud: Cloud, personas: Personas
) -> None:
    act = Left(cloud.kept[: RATE // 2])
    cloud.act = act
    async with started(eleven(cloud.url, personas)) as voice:
        blocks = voice.speak(request_for(personas["maya"], TEXT))
        await anext(blocks)
        await blocks.aclose()
        assert await asyncio.to_thread(act.left.wait, 30)


async def test_a_provider_is_shown_no_token_and_no_text_where_its_audio_lies(
    cloud: Cloud, elsewhere: Cloud, personas: Personas
) -> None:
    cloud.audio_at = elsewhere.url
    async with started(hub(cloud.url, personas)) as voice:
        await spoken(voice, personas)
    (fetched,) = elsewhere.seen
    assert (fetched.method, fetched.body) == ("GET", b"")
    assert HF_TOKEN not in str(fetched.headers)
    assert TEXT not in f"{fetched.path} {fetched.headers}"
    assert {one.headers["authorization"] for one in cloud.seen} == {f"Bearer {HF_TOKEN}"}


async def test_where_its_audio_lies_a_provider_may_not_redirect_either(
    cloud: Cloud, elsewhere: Cloud, personas: Personas
) -> None:
    cloud.audio_act = redirected(302, f"{elsewhere.url}/files/spoken.wav")
    async with started(hub(cloud.url, personas)) as voice:
        assert (await failure(voice, personas)).failure == "wrong_address"
    assert elsewhere.seen == []


@pytest.mark.parametrize(
    ("method", "scheme"), [("GET", "http"), ("POST", "http"), ("POST", "https")]
)
async def test_only_encrypted_audio_is_fetched_from_strangers_and_nothing_is_posted_there(
    method: str, scheme: str, personas: Personas
) -> None:
    voice = HuggingFaceVoice(HF_TOKEN, MODEL, "auto", None, personas, substitute=True)
    async with started(voice):
        with pytest.raises(RungError, match="stranger") as caught:
            await voice._send(99, httpx2.Request(method, f"{scheme}://stranger.invalid/a.wav"))
    assert (voice.host, caught.value.failure) == (ROUTER_URL[8:], "wrong_address")


async def test_a_token_of_another_house_is_shown_to_nobody(
    cloud: Cloud, personas: Personas
) -> None:
    async with started(hub(cloud.url, personas, token="r8_of_replicate")) as voice:
        assert (await failure(voice, personas)).failure == "credentials"
    assert cloud.seen == []


async def test_hf_hub_offline_lets_nothing_out(
    cloud: Cloud, personas: Personas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    async with started(rung_at("huggingface", cloud.url, personas)) as voice:
        assert (await failure(voice, personas)).outcome == "offline"
    assert cloud.seen == []


async def test_a_provider_that_comes_later_is_found(cloud: Cloud, personas: Personas) -> None:
    every, cloud.providers = cloud.providers, {}
    async with started(hub(cloud.url, personas)) as voice:
        assert (await failure(voice, personas)).failure == "wrong_address"
        cloud.providers = every
        assert (await spoken(voice, personas)).size


@pytest.mark.parametrize(
    ("act", "failed"),
    [
        (body(b'{"audio":{}}', "application/json"), "wrong_address"),
        (body(b'[{"generated_text":"LEAK"}]', "application/json"), "wrong_address"),
        (body(b"<html>LEAK</html>", "text/html"), "wrong_address"),
        (body(b"", "application/json"), "bad_audio"),
    ],
)
async def test_a_provider_that_names_no_audio_is_not_believed(
    act: Act, failed: str, cloud: Cloud, personas: Personas
) -> None:
    cloud.act = act
    async with started(hub(cloud.url, personas, provider="fal-ai")) as voice:
        error = await failure(voice, personas)
    assert error.failure == failed
    assert "LEAK" not in f"{error} {error.hint}"


async def test_a_prediction_that_is_not_there_yet_is_a_time_out(
    cloud: Cloud, personas: Personas
) -> None:
    cloud.act = body(b'{"model":"kokoro","output":null}', "application/json")
    async with started(hub(cloud.url, personas, provider="replicate")) as voice:
        assert (await failure(voice, personas)).failure == "timeout"


async def test_a_voice_stands_in_by_name(rung: Voice, personas: Personas) -> None:
    voices = {"huggingface": "huggingface:af_heart", "elevenlabs": "elevenlabs:Sarah"}
    assert rung.substitution(personas["maya"]) == voices[rung.name]


@pytest.mark.parametrize("name", RUNGS)
@pytest.mark.parametrize("substitute", [True, False])
async def test_a_persona_without_a_voice_is_stood_in_for_where_that_is_allowed(
    name: str, substitute: bool, cloud: Cloud, personas: Personas
) -> None:
    mute = personas["warm"].model_copy(update={"huggingface": None, "elevenlabs": None})
    async with started(rung_at(name, cloud.url, personas, substitute=substitute)) as voice:
        assert voice.speaks_for(personas["warm"])
        assert voice.speaks_for(mute) is substitute
        assert (voice.substitution(mute) == voice.substitution(personas["maya"])) is substitute


async def test_a_voice_that_was_refused_is_not_asked_for_again(
    cloud: Cloud, personas: Personas
) -> None:
    cloud.unknown_voices = {SARAH}
    async with started(eleven(cloud.url, personas, substitute=False)) as voice:
        assert (await failure(voice, personas)).failure == "no_voice"
        assert not voice.speaks_for(personas["maya"])
        assert voice.speaks_for(personas["warm"])


async def test_another_stands_in_for_a_voice_that_was_refused(
    cloud: Cloud, personas: Personas
) -> None:
    cloud.unknown_voices = {SARAH}
    async with started(eleven(cloud.url, personas)) as voice:
        await failure(voice, personas)
        assert (await spoken(voice, personas)).size
        assert voice.substitution(personas["maya"]) != "elevenlabs:Sarah"


async def test_one_voice_id_may_speak_for_all(cloud: Cloud, personas: Personas) -> None:
    async with started(eleven(cloud.url, personas, voice_id="A" * 20)) as voice:
        await spoken(voice, personas, "warm")
        assert voice.substitution(personas["warm"]) == f"elevenlabs:{'A' * 20}"
    (synthesis,) = cloud.syntheses
    assert synthesis.path.startswith(f"/v1/text-to-speech/{'A' * 20}/stream")


async def test_the_key_is_the_one_that_was_given(
    cloud: Cloud, personas: Personas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody_else")
    async with started(hub(cloud.url, personas)) as voice:
        await spoken(voice, personas)
        await voice.look()
    assert {one.headers["authorization"] for one in cloud.seen} == {f"Bearer {HF_TOKEN}"}


def denied(word: str) -> Callable[[Cloud], None]:
    def deny(cloud: Cloud) -> None:
        cloud.acts_at[SUBSCRIPTION] = refused(401, word)

    return deny


def grained(*permissions: str) -> dict[str, Any]:
    scoped = [{"entity": {"type": "user"}, "permissions": list(permissions)}]
    return {"auth": {"accessToken": {"role": "fineGrained", "fineGrained": {"scoped": scoped}}}}


LOOKS: dict[str, tuple[str, Callable[[Cloud], object], dict[str, Any], str, str]] = {
    "hub ready": ("hub", lambda _: None, {}, "ready", "fal-ai"),
    "hub fine-grained": (
        "hub",
        lambda cloud: cloud.account.update(grained("inference.serverless.write")),
        {},
        "ready",
        "fal-ai",
    ),
    "hub tells no rights": ("hub", lambda cloud: cloud.account.clear(), {}, "narrow", "not tell"),
    "endpoint": ("huggingface", lambda _: None, {}, "narrow", "answers"),
    "endpoint refuses": (
        "huggingface",
        lambda cloud: setattr(cloud, "act", status(403)),
        {},
        "invalid",
        "HF_TOKEN",
    ),
    "endpoint sleeps": (
        "huggingface",
        lambda cloud: setattr(cloud, "act", status(503)),
        {},
        "unreachable",
        "503",
    ),
    "token of another house": ("hub", lambda _: None, {"token": "sk-x"}, "invalid", "hf_"),
    "token refused": ("hub", lambda _: None, {"token": "hf_old"}, "invalid", "HF_TOKEN"),
    "no right": (
        "hub",
        lambda cloud: cloud.account.update(grained("repo.content.read")),
        {},
        "invalid",
        "Inference Providers",
    ),
    "chat model": (
        "hub",
        lambda cloud: setattr(cloud, "pipeline_tag", "text-generation"),
        {},
        "invalid",
        "text-generation",
    ),
    "no such model": ("hub", lambda _: None, {"model": "a/b"}, "invalid", "SESAME_HF_MODEL"),
    "no provider": (
        "hub",
        lambda cloud: setattr(cloud, "providers", {}),
        {},
        "invalid",
        "no provider",
    ),
    "another provider": (
        "hub",
        lambda _: None,
        {"provider": "together"},
        "invalid",
        "fal-ai, replicate, deepinfra",
    ),
    "hub answers a page": (
        "hub",
        lambda cloud: cloud.acts_at.update({"/api/whoami-v2": body(b"<html>", "text/html")}),
        {},
        "invalid",
        "hub",
    ),
    "ElevenLabs ready": ("elevenlabs", lambda _: None, {}, "ready", "starter"),
    "narrow key": ("elevenlabs", denied("missing_permissions"), {}, "narrow", "may not read"),
    "unknown key": ("elevenlabs", denied("invalid_api_key"), {}, "invalid", "ELEVENLABS_API_KEY"),
    "unpaid": ("elevenlabs", denied("payment_issue"), {}, "invalid", "payment"),
    "unknown model": (
        "elevenlabs",
        lambda _: None,
        {"model": "eleven_x"},
        "invalid",
        "eleven_flash_v2_5",
    ),
    "unknown voice": (
        "elevenlabs",
        lambda cloud: cloud.unknown_voices.add(SARAH),
        {},
        "invalid",
        "Sarah",
    ),
    "used up": (
        "elevenlabs",
        lambda cloud: cloud.subscription.update(character_count=30_000),
        {},
        "invalid",
        "reset",
    ),
    "a page": (
        "elevenlabs",
        lambda cloud: cloud.acts_at.update({SUBSCRIPTION: body(b"<html>", "text/html")}),
        {},
        "invalid",
        "ELEVENLABS_BASE_URL",
    ),
    "other JSON": (
        "elevenlabs",
        lambda cloud: cloud.acts_at.update({SUBSCRIPTION: body(b"[]", "application/json")}),
        {},
        "invalid",
        "ELEVENLABS_BASE_URL",
    ),
}


@pytest.mark.parametrize(
    ("name", "change", "settings", "found", "words"), [*LOOKS.values()], ids=[*LOOKS]
)
async def test_a_look_tells_what_is_wrong_and_spends_nothing(
    name: str,
    change: Callable[[Cloud], object],
    settings: dict[str, Any],
    found: str,
    words: str,
    cloud: Cloud,
    personas: Personas,
) -> None:
    change(cloud)
    if name == "hub":
        voice: Voice = hub(cloud.url, personas, **settings)
    else:
        voice = rung_at(name, cloud.url, personas, **settings)
    async with started(voice):
        finding = await voice.look()
    assert finding.name == found, finding
    assert words in f"{finding.detail} {finding.next_step}"
    assert finding.next_step or found in ("ready", "narrow")
    assert cloud.syntheses == []


async def test_a_look_tells_the_quota_that_is_left(cloud: Cloud, personas: Personas) -> None:
    async with started(eleven(cloud.url, personas)) as voice:
        quota = (await voice.look()).quota
    assert quota is not None
    assert (quota.left, quota.resets_at and quota.resets_at.year) == (29_000, 2027)


@pytest.mark.parametrize("make", [hub, eleven])
async def test_a_look_where_nobody_is_says_unreachable(
    make: Callable[..., Voice], cloud: Cloud, personas: Personas
) -> None:
    del cloud
    async with started(make(f"http://127.0.0.1:{unheard_port()}", personas)) as voice:
        finding = await voice.look()
    assert (finding.name, bool(finding.next_step)) == ("unreachable", True)


@pytest.mark.parametrize("make", [hub, eleven])
async def test_a_probe_spends_no_character(
    make: Callable[..., Voice], cloud: Cloud, personas: Personas
) -> None:
    async with started(make(cloud.url, personas)) as voice:
        await voice.probe()
    assert cloud.seen
    assert cloud.syntheses == []


async def test_a_key_that_may_only_speak_is_alive(cloud: Cloud, personas: Personas) -> None:
    denied("missing_permissions")(cloud)
    async with started(eleven(cloud.url, personas)) as voice:
        await voice.probe()


@pytest.mark.parametrize(
    ("make", "path", "code", "failed"),
    [
        (hub, "/", 502, "transient"),
        (hub, f"/api/models/{MODEL}", 401, "credentials"),
        (hub, f"/api/models/{MODEL}", 502, "transient"),
        (eleven, SUBSCRIPTION, 401, "credentials"),
        (eleven, SUBSCRIPTION, 502, "transient"),
    ],
)
async def test_a_probe_fails_as_the_service_does(
    make: Callable[..., Voice], path: str, code: int, failed: str, cloud: Cloud, personas: Personas
) -> None:
    cloud.acts_at[path] = status(code)
    async with started(make(cloud.url, personas)) as voice:
        with pytest.raises(RungError) as caught:
            await voice.probe()
    assert caught.value.failure == failed


@pytest.mark.parametrize("act", [status(403), redirected(307, "https://hub.invalid/docs")])
async def test_what_the_router_shows_to_readers_says_nothing_of_its_voices(
    act: Act, cloud: Cloud, personas: Personas
) -> None:
    cloud.acts_at["/"] = act
    async with started(hub(cloud.url, personas)) as voice:
        await voice.probe()


async def test_audio_that_cannot_be_fetched_says_nothing_of_the_key(
    cloud: Cloud, elsewhere: Cloud, personas: Personas
) -> None:
    cloud.audio_at = elsewhere.url
    elsewhere.audio_act = status(403)
    async with started(hub(cloud.url, personas)) as voice:
        assert (await failure(voice, personas)).failure == "transient"


async def test_a_rung_is_ready_before_anything_is_asked(rung: Voice, cloud: Cloud) -> None:
    assert (rung.state.name, rung.host, cloud.seen) == ("ready", "127.0.0.1", [])


async def test_the_text_goes_in_the_body_alone(
    rung: Voice, cloud: Cloud, personas: Personas
) -> None:
    await spoken(rung, personas)
    for one in cloud.seen:
        assert not re.search("Nobody|sentence", f"{one.path} {one.headers}")
