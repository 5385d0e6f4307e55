"""The border between what is not met and what cannot be told."""

import socket
from collections.abc import Awaitable, Callable, Iterator

import pytest

from checks.report import Report, Result, Verdict
from checks.run import run
from tests.checks.fake_service import Act, FakeService, serving

pytestmark = pytest.mark.anyio

Checked = Callable[..., Awaitable[Report]]
Named = Callable[[Report, str], Result]


@pytest.fixture
def full_port() -> Iterator[int]:
    """Give a port whose queue of connections is full: packets to it are dropped."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for connection in waiting:
            connection.settimeout(0)
            connection.connect_ex(("127.0.0.1", port))
        yield port
        for connection in waiting:
            connection.close()


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        pytest.param(
            lambda exchange: exchange.answer(200, b"<html></html>", Content_Type="text/html"),
            "text/html",
            id="HTML",
        ),
        pytest.param(
            lambda exchange: exchange.answer(502, b"Bad Gateway", Content_Type="text/plain"),
            "HTTP 502",
            id="a proxy without a service behind it",
        ),
        pytest.param(lambda exchange: exchange.answer(200, b"", X_Y="z"), "no content", id="empty"),
        pytest.param(lambda exchange: exchange.answer(200, b"[" * 9999), "no content", id="deep"),
        pytest.param(
            lambda exchange: exchange.answer_json(200, {"status": "UP"}), "JSON", id="other JSON"
        ),
        pytest.param(lambda exchange: exchange.answer_json(200, ["healthy"]), "json", id="a list"),
        pytest.param(
            lambda exchange: exchange.answer(200, b'{"status":NaN,"model_loaded":true}'),
            "no content",
            id="NaN",
        ),
        pytest.param(lambda exchange: exchange.leave(), "no HTTP", id="no answer at all"),
    ],
)
async def test_a_stranger_at_the_address_cannot_be_judged(
    fake: FakeService, checked: Checked, named: Named, act: Act, reason: str
) -> None:
    fake.acts["/health"] = act
    report = await checked()
    assert report.verdict is Verdict.UNKNOWN
    assert reason in named(report, "health.answers").detail


async def test_nothing_more_and_no_key_is_sent_to_a_stranger(
    fake: FakeService, checked: Checked
) -> None:
    fake.acts["/health"] = lambda exchange: exchange.answer_json(200, {"status": "UP"})
    await checked(key="k3y")
    assert [exchange.path for exchange in fake.seen] == ["/health"]
    assert "authorization" not in fake.seen[0].headers


@pytest.mark.parametrize("path", ["/health", "speech"])
async def test_a_redirect_is_not_followed(fake: FakeService, checked: Checked, path: str) -> None:
    with serving(FakeService()) as elsewhere:
        target = f"{elsewhere.url}/health"
        fake.acts[path] = lambda exchange: exchange.answer(307, b"", Location=target)
        report = await checked(key="k3y")
        assert report.verdict is not Verdict.MET
        assert elsewhere.seen == []


async def test_a_redirected_health_names_the_target(
    fake: FakeService, checked: Checked, named: Named
) -> None:
    fake.acts["/health"] = lambda exchange: exchange.answer(301, b"", Location="https://other/")
    result = named(await checked(), "health.answers")
    assert result.verdict is Verdict.UNKNOWN
    assert "https://other/" in result.detail


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        pytest.param(lambda exchange: exchange.hang(), "0 bytes", id="hangs"),
        pytest.param(lambda exchange: exchange.drip(), "no whole answer", id="drips"),
        pytest.param(lambda exchange: exchange.cut(100), "cut off after 50", id="is cut off"),
        pytest.param(
            lambda exchange: exchange.answer(200, b" " * (8 * 2**20 + 1)), "8 MiB", id="no end"
        ),
        pytest.param(
            lambda exchange: exchange.answer_json(
                400,
                {"success": False, "error": "Host is not ours", "code": "host", "hint": "Set X"},
            ),
            "Host is not ours",
            id="refuses our Host",
        ),
    ],
)
async def test_a_service_that_is_there_and_gives_no_health_is_not_met(
    fake: FakeService, checked: Checked, named: Named, act: Act, reason: str
) -> None:
    fake.acts["/health"] = act
    report = await checked(time_limit=0.4)
    result = named(report, "health.answers")
    assert result.verdict is report.verdict is Verdict.NOT_MET
    assert reason in result.detail


async def test_a_closed_port_cannot_be_judged(closed_port: int, named: Named) -> None:
    report = await run(f"http://127.0.0.1:{closed_port}")
    assert report.verdict is Verdict.UNKNOWN
    assert "refused" in named(report, "health.answers").detail


async def test_a_port_that_takes_no_connection_in_time_cannot_be_judged(
    full_port: int, named: Named
) -> None:
    report = await run(f"http://127.0.0.1:{full_port}", time_limit=0.3)
    assert report.verdict is Verdict.UNKNOWN
    assert "none within 0.3 s" in named(report, "health.answers").detail


@pytest.mark.parametrize("host", ["no-such-host.invalid", f"{'a' * 70}.invalid"])
async def test_an_unknown_name_cannot_be_judged(named: Named, host: str) -> None:
    report = await run(f"http://{host}")
    assert report.verdict is Verdict.UNKNOWN
    assert "no connection" in named(report, "health.answers").detail


async def test_a_failed_tls_handshake_cannot_be_judged(fake: FakeService, named: Named) -> None:
    report = await run(fake.url.replace("http://", "https://"))
    assert report.verdict is Verdict.UNKNOWN
    assert "TLS failed" in named(report, "health.answers").detail


async def test_a_proxy_of_the_environment_is_not_used_for_loopback(
    fake: FakeService, checked: Checked, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{closed_port}")
    monkeypatch.setenv("NO_PROXY", "")
    assert (await checked("health")).verdict is Verdict.MET
    assert fake.seen != []


async def test_a_dead_proxy_of_the_environment_cannot_be_judged(
    closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{closed_port}")
    monkeypatch.setenv("NO_PROXY", "")
    assert (await run("http://voice.invalid")).verdict is Verdict.UNKNOWN


async def test_an_unusable_proxy_setting_cannot_be_judged_and_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, named: Named
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "ftp://user:pa55@proxy")
    report = await run("http://voice.invalid")
    assert report.verdict is Verdict.UNKNOWN
    assert "proxy" in named(report, "health.answers").detail
    assert "pa55" not in report.to_json()


async def test_not_met_wins_over_could_not_tell(fake: FakeService, checked: Checked) -> None:
    fake.acts["speech"] = lambda exchange: exchange.answer_json(401, {})
    fake.acts["not_json"] = lambda exchange: exchange.answer_json(200, {})
    report = await checked()
    assert {r.verdict for r in report.results} == set(Verdict)
    assert report.exit_code == 1


async def test_a_whole_run_is_bounded(fake: FakeService, checked: Checked) -> None:
    fake.health["voices"] = [f"voice{number}" for number in range(40)]
    fake.acts["speech"] = lambda exchange: exchange.hang()
    report = await checked("speech", time_limit=0.2)
    details = [result.detail for result in report.results]
    assert "not tried: the 0.8 s of a whole run are spent" in details
