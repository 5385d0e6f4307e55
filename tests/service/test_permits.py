"""How many speak at once, who waits, in which order, and who is refused."""

import asyncio
import threading
from collections.abc import Iterator
from functools import reduce

import anyio
import httpx
import pytest

from service.app import create_app
from service.engines.chain import Chain
from service.engines.permits import CHARACTER_SECONDS, Permits
from service.errors import QueueFullError
from service.settings import ServiceSettings
from service.voices import Personas
from tests.service.held import TIMEOUT
from tests.service.rungs import Rung, Slow, request_for, tone
from tests.service.serving import serving

pytestmark = pytest.mark.anyio


async def line_up(permits: Permits, *texts: int) -> list[int]:
    """Have texts of so many characters wait in this order; give the order in which they go."""
    went = []

    async def speak(characters: int) -> None:
        async with permits.hold(characters):
            went.append(characters)

    async with permits.hold(1):
        waiting = []
        for characters in texts:
            waiting.append(asyncio.create_task(speak(characters)))
            await asyncio.sleep(0)
        assert permits.waiting == len(texts)
    await asyncio.gather(*waiting)
    return went


async def test_a_short_text_passes_long_ones() -> None:
    assert await line_up(Permits(1), 4000, 2000, 20) == [20, 2000, 4000]


async def test_those_of_one_length_go_in_the_order_in_which_they_came() -> None:
    permits, went = Permits(1), []

    async def speak(name: str) -> None:
        async with permits.hold(100):
            went.append(name)

    async with asyncio.TaskGroup() as tasks, permits.hold(1):
        for name in "abc":
            tasks.create_task(speak(name))
            await asyncio.sleep(0)
    assert went == ["a", "b", "c"]


async def test_a_long_text_waits_for_none_that_came_its_own_length_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr("service.engines.permits.monotonic", lambda: now)
    permits, went = Permits(1), []

    async def speak(name: str, characters: int) -> None:
        async with permits.hold(characters):
            went.append(name)

    async with asyncio.TaskGroup() as tasks, permits.hold(1):
        tasks.create_task(speak("long", 300))
        await asyncio.sleep(0)
        for name, came in (("soon", 0.5), ("late", 1.5)):
            now = came * 300 * CHARACTER_SECONDS
            tasks.create_task(speak(name, 10))
            await asyncio.sleep(0)
    assert went == ["soon", "long", "late"]


async def test_who_leaves_the_queue_holds_nobody_up() -> None:
    permits = Permits(1)
    async with permits.hold(1):
        with anyio.move_on_after(0.01):
            async with permits.hold(1):
                pytest.fail("there was no permit")
        assert permits.waiting == 0
    assert permits.taken == 0


@pytest.mark.parametrize("leaves_first", [False, True])
async def test_a_permit_that_comes_as_its_taker_leaves_goes_on_to_the_next(
    leaves_first: bool,
) -> None:
    permits = Permits(1)
    went = asyncio.Event()

    async def speak() -> None:
        async with permits.hold(1):
            went.set()

    holding = permits.hold(1)
    await holding.__aenter__()
    leaving = asyncio.create_task(speak())
    await asyncio.sleep(0)
    staying = asyncio.create_task(speak())
    await asyncio.sleep(0)
    if leaves_first:
        leaving.cancel()
    await holding.__aexit__(None, None, None)
    leaving.cancel()
    await staying
    assert went.is_set()
    assert permits.taken == 0


@pytest.fixture
def busy() -> Iterator[httpx.Client]:
    """A voice that says one thing at a time, is saying it, and has nobody wait; a cloud is free."""
    slow, cloud = Slow(tone(1), permits=1), Rung(tone(1), name="elevenlabs")
    with serving(create_app(ServiceSettings(queue_limit=0), [slow, cloud])) as client:
        ask = {"url": "/api/v1/generate", "json": {"text": "a"}}
        first = threading.Thread(target=client.post, kwargs=ask)
        first.start()
        assert slow.speaking.wait(TIMEOUT)
        yield client
        slow.free.set()
        first.join()
    assert cloud.asked == 0


OURS = ("/api/v1/generate", {"text": "a"}, ("code",))
OPENAI = ("/v1/audio/speech", {"input": "a", "voice": "maya"}, ("error", "code"))
ELEVENLABS = ("/v1/text-to-speech/maya", {"text": "a"}, ("detail", "status"))


@pytest.mark.parametrize(("path", "body", "place"), [OURS, OPENAI, ELEVENLABS])
def test_who_would_be_one_too_many_is_told_when_to_come_again(
    path: str, body: dict[str, str], place: tuple[str, ...], busy: httpx.Client
) -> None:
    refused = busy.post(path, json=body)
    told = reduce(lambda found, name: found[name], place, refused.json())
    assert (refused.status_code, told) == (429, "queue_full")
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert refused.headers["X-Speech-Attempts"] == "basic=queue_full"


def test_a_full_queue_is_no_ill_health(busy: httpx.Client) -> None:
    busy.post("/api/v1/generate", json={"text": "a"})
    assert busy.get("/readyz").status_code == 200


async def test_a_full_queue_lets_the_next_wait_once_one_has_gone(personas: Personas) -> None:
    slow = Slow(tone(1), permits=1)
    chain = Chain([slow], deadline_seconds=TIMEOUT, stall_seconds=TIMEOUT, queue_limit=1)

    async def speak() -> None:
        async with chain.speak(request_for(personas["maya"])) as speech:
            async for _ in speech.blocks:
                pass

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(speak())
        await asyncio.to_thread(slow.speaking.wait, TIMEOUT)
        tasks.create_task(speak())
        await asyncio.sleep(0)
        with pytest.raises(QueueFullError):
            await speak()
        slow.free.set()
    await speak()
