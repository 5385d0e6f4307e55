"""What nobody should send: each is refused in the dialect's form, and the next is answered."""

import re
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from service import connection
from service.api import bodies
from service.app import create_app
from service.settings import ServiceSettings
from tests.service.rungs import Rung, tone
from tests.service.serving import TIMEOUT, serving

pytestmark = pytest.mark.fuzz

ROUTES = {
    "/api/v1/generate": "text",
    "/tts": "text",
    "/v1/audio/speech": "input",
    "/v1/text-to-speech/maya": "text",
}
HOST = b"Host: localhost\r\n"
JSON = b"Content-Type: application/json\r\n"
BODY = b'{"text":"a"}'
POST = b"POST /generate HTTP/1.1\r\n" + HOST + JSON


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    app = create_app(ServiceSettings(cache_bytes=0), [Rung(tone(1), name="csm")])
    with serving(app) as client:
        yield client


@pytest.fixture(autouse=True)
def _next_is_answered(client: httpx.Client) -> Iterator[None]:
    yield
    assert client.post("/generate", json={"text": "a"}).status_code == 200


def sent(client: httpx.Client, request: bytes) -> bytes:
    """Send bytes; give all that comes until the server closes the connection."""
    address = (client.base_url.host, client.base_url.port or 80)
    with socket.create_connection(address, timeout=TIMEOUT) as peer:
        peer.sendall(request)
        answer = b""
        while piece := peer.recv(65_536):
            answer += piece
    return answer


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def code_of(path: str, answer: httpx.Response) -> str:
    told = answer.json()
    if path.startswith("/v1/text-to-speech"):
        return str(told["detail"]["status"])
    return str(told["error"]["code"] if path.startswith("/v1/") else told["code"])


def with_field(name: str, literal: str) -> str:
    """A body, TEXT standing for the name of the field that holds the text."""
    return f'{{"TEXT":"Hi.","voice":"maya","{name}":{literal}}}'


DEEP = "[" * 100_000
REFUSED = {
    "a number beyond all": (with_field("speed", "1e400"), "field_refused"),
    "not a number": (with_field("speed", "NaN"), "field_refused"),
    "infinity": (with_field("speed", "-Infinity"), "field_refused"),
    "400 digits": (with_field("speed", "9" * 400), "field_refused"),
    "5,000 digits": (with_field("speed", "9" * 5_000), "not_json"),
    "brackets without end": (f'{{"TEXT":{DEEP}', "not_json"),
    "100,000 brackets": (with_field("voice", DEEP + "]" * 100_000), "not_json"),
    "a deep voice": (with_field("voice", '{"id":' * 300 + "1" + "}" * 300), "field_refused"),
    "a voice of lists": (with_field("voice", '["maya"]'), "field_refused"),
    "a voice of half a megabyte": (with_field("voice", f'"{"v" * 500_000}"'), "voice_unknown"),
    "a way out of the folder": (with_field("voice", '"../../etc/passwd"'), "voice_unknown"),
    "a header in a voice": (with_field("voice", '"maya\\r\\nX-Evil: 1"'), "voice_unknown"),
    "a NUL in a voice": (with_field("voice", '"ma\\u0000ya"'), "voice_unknown"),
    "a NUL as it is": ('{"TEXT":"a\x00b","voice":"maya"}', "not_json"),
    "the last of two texts": ('{"TEXT":"a","voice":"maya","TEXT":5}', "field_refused"),
    "a text that is a list": ('{"TEXT":["a"],"voice":"maya"}', "field_refused"),
    "a text that is a number": ('{"TEXT":1e10,"voice":"maya"}', "field_refused"),
    "nothing that is seen": ('{"TEXT":"\u200b\u200d\ufeff\u2060","voice":"maya"}', "text_empty"),
    "only directions": ('{"TEXT":"\u202e\u202c\u200f","voice":"maya"}', "text_empty"),
    "a list": ("[]", "field_refused"),
    "a null": ("null", "field_refused"),
    "a word": ('"a"', "field_refused"),
    "nothing": ("", "field_refused"),
    "blanks": ("  \n ", "not_json"),
    "two bodies": ("{}{}", "not_json"),
}


def refused_cases() -> list[tuple[str, str, str]]:
    """Give every body on every route; ElevenLabs' clients name voice and speed elsewhere."""
    return [
        (path, name, code)
        for path in ROUTES
        for name, (body, code) in REFUSED.items()
        if not (path.startswith("/v1/text") and (body.count('"voice"') > 1 or '"speed"' in body))
    ]


@pytest.mark.parametrize(("path", "name", "code"), refused_cases())
def test_a_bad_body_is_refused(path: str, name: str, code: str, client: httpx.Client) -> None:
    body = REFUSED[name][0].replace("TEXT", ROUTES[path]).encode()
    answer = client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert 400 <= answer.status_code < 500
    assert code_of(path, answer) == code
    assert "x-evil" not in answer.headers
    assert len(answer.content) < 1_000


SPOKEN = {
    "half an emoji": '{"TEXT":"a\\ud800b","voice":"maya"}',
    "a NUL": '{"TEXT":"a\\u0000b","voice":"maya"}',
    "right to left": '{"TEXT":"\u202eabc\u202c \u05e9\u05dc\u05d5\u05dd","voice":"maya"}',
    "a byte order mark": '\ufeff{"TEXT":"a","voice":"maya"}',
    "accents upon accents": f'{{"TEXT":"a{chr(0x301) * 4_000}","voice":"maya"}}',
    "a pause of ages": '{"TEXT":"a <break time=\'1e308s\'/> b","voice":"maya"}',
    "marks without end": f'{{"TEXT":"a {"<" * 3_000}","voice":"maya"}}',
    "an unknown field of brackets": '{"TEXT":"a","voice":"maya","x":' + "[" * 300 + "]" * 300 + "}",
}


@pytest.mark.parametrize("name", SPOKEN)
@pytest.mark.parametrize("path", ROUTES)
def test_an_odd_text_is_spoken(path: str, name: str, client: httpx.Client) -> None:
    body = SPOKEN[name].replace("TEXT", ROUTES[path]).encode()
    answer = client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("path", ROUTES)
def test_bytes_that_are_no_text_are_refused(path: str, client: httpx.Client) -> None:
    body = b'{"%s":"\xff\xfe","voice":"maya"}' % ROUTES[path].encode()
    answer = client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, code_of(path, answer)) == (400, "not_json")


@pytest.mark.parametrize("audio", ["\U00023a10", "AAA", "!!!!", "UklGRg=="])
def test_a_turn_that_is_no_recording_is_refused(audio: str, client: httpx.Client) -> None:
    turn = {"text": "Hi.", "audio": audio}
    answer = client.post("/generate", json={"text": "a", "context": [turn]})
    assert (answer.status_code, answer.json()["code"]) == (422, "field_refused")


WRONG: list[Any] = [None, True, "", "a", -1, 10**30, 1.5, [], {}, [[]], {"a": 1}]
FIELDS = {
    "/api/v1/generate": [
        *("voice", "format", "sample_rate", "speed", "stream", "temperature", "top_k", "seed"),
        *("max_audio_length_ms", "context", "inputs", "parameters", "response_format"),
    ],
    "/tts": ["voice", "format", "output_format", "speed", "sample_rate"],
    "/v1/audio/speech": ["voice", "response_format", "speed", "stream_format", "model"],
    "/v1/text-to-speech/maya": ["output_format", "voice_settings", "seed", "model_id"],
}


@pytest.mark.parametrize(
    ("path", "field"), [(path, field) for path, fields in FIELDS.items() for field in fields]
)
def test_a_field_of_any_type_is_refused_or_ignored(
    path: str, field: str, client: httpx.Client
) -> None:
    for value in WRONG:
        body = {ROUTES[path]: "Hi.", "voice": "maya", field: value}
        answer = client.post(path, json=body)
        assert answer.status_code in {200, 422}, f"{field}={value!r}: {answer.text}"


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, gzip", "x-mine"])
@pytest.mark.parametrize("path", ROUTES)
def test_a_compressed_body_is_refused_unread(
    path: str, encoding: str, client: httpx.Client
) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
    answer = client.post(path, content=b"\x1f\x8b", headers=headers)
    assert (answer.status_code, code_of(path, answer)) == (415, "encoding_refused")


def test_a_body_as_it_is_may_say_so(client: httpx.Client) -> None:
    answer = client.post("/generate", json={"text": "a"}, headers={"Content-Encoding": "identity"})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/audio/../../etc/passwd", 404),
        ("GET", "/audio/%2e%2e%2f%2e%2e%2fetc%2fpasswd", 404),
        ("GET", "/audio/..%5c..%5cx", 404),
        ("GET", "/audio/%00", 404),
        ("GET", f"/audio/{'a' * 5_000}", 404),
        ("GET", "/web/..%2fsettings.py", 404),
        ("GET", "/%ff%fe", 404),
        ("POST", "/v1/text-to-speech/%0d%0aX-Evil:%201", 422),
        ("POST", "/v1/text-to-speech/%00", 422),
        ("POST", "/v1/text-to-speech/%ff", 422),
        ("POST", "/v1/text-to-speech/%2e%2e", 422),
        ("POST", "/v1/text-to-speech/..%2fmaya", 404),
    ],
)
def test_a_path_leads_nowhere_else(
    method: str, path: str, status: int, client: httpx.Client
) -> None:
    head = f"{method} {path} HTTP/1.1\r\n".encode() + HOST + JSON
    answer = sent(client, head + b"Content-Length: 12\r\nConnection: close\r\n\r\n" + BODY)
    assert status_of(answer) == status
    assert b"\r\nx-evil:" not in answer.lower()
    assert b"root:" not in answer


FRAMED = b"Content-Length: 12\r\nConnection: close\r\n\r\n" + BODY


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        pytest.param(POST + b"Range: bytes=99999-\r\n" + FRAMED, 200, id="a range"),
        pytest.param(POST + b"Expect: 100-continue\r\n" + FRAMED, 100, id="an expectation"),
        pytest.param(POST + b"Expect: teapot\r\n" + FRAMED, 200, id="an odd expectation"),
        pytest.param(POST + b"X-Request-Id: " + b"\xff" * 99 + b"\r\n" + FRAMED, 200, id="an id"),
        pytest.param(POST + b"Content-Length: 13\r\n" + FRAMED, 400, id="two lengths"),
        pytest.param(POST + b"Content-Length: -1\r\n\r\n", 400, id="a negative length"),
        pytest.param(POST + b"Content-Length: %s\r\n\r\n" % (b"9" * 30), 400, id="a long length"),
        pytest.param(POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 400, id="two encodings"),
        pytest.param(POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400, id="a bad chunk"),
        pytest.param(
            POST + b"Transfer-Encoding: chunked\r\n" + FRAMED, 400, id="two ends of a body"
        ),
        pytest.param(b"GET /livez HTTP/1.1\r\n\r\n", 400, id="no host"),
        pytest.param(b"GET /livez HTTP/1.1\r\n" + HOST * 2 + b"\r\n", 400, id="two hosts"),
        pytest.param(
            b"GET /livez HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 66_000, 400, id="a huge header"
        ),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, id="HTTP/2"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, id="TLS"),
        pytest.param(b"POST /generate HTTP/1.0\r\n" + HOST + JSON + FRAMED, 200, id="HTTP/1.0"),
    ],
)
def test_odd_http_is_answered(request_: bytes, status: int, client: httpx.Client) -> None:
    assert status_of(sent(client, request_)) == status


def test_requests_in_a_row_are_answered_in_their_order(client: httpx.Client) -> None:
    ids = [f"X-Request-Id: number-{number}\r\n".encode() for number in range(3)]
    asked = [POST + number + b"Content-Length: 12\r\n\r\n" + BODY for number in ids[:2]]
    last = b"GET /livez HTTP/1.1\r\n" + HOST + ids[2] + b"Connection: close\r\n\r\n"
    answer = sent(client, b"".join([*asked, last]))
    assert re.findall(rb"x-request-id: number-(\d)", answer) == [b"0", b"1", b"2"]


@pytest.mark.parametrize("method", ["DELETE", "FOO", "OPTIONS", "PATCH", "PUT", "TRACE"])
@pytest.mark.parametrize("path", [*ROUTES, "/", "/health", "/audio/x", "/openapi.json"])
def test_another_method_is_told_the_right_ones(
    method: str, path: str, client: httpx.Client
) -> None:
    answer = client.request(method, path)
    assert answer.status_code == 405
    assert set(re.split(r", *", answer.headers["allow"])) <= {"GET", "HEAD", "POST"}


def test_a_path_of_two_methods_names_both(client: httpx.Client) -> None:
    answer = client.put("/rungs/drill")
    assert set(re.split(r", *", answer.headers["allow"])) == {"GET", "HEAD", "POST"}


@pytest.mark.parametrize("path", ["/health", "/livez", "/readyz", "/voices", "/metrics", "/"])
def test_head_is_answered_as_get_is(path: str, client: httpx.Client) -> None:
    head = client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == client.get(path).headers["content-type"]


@pytest.mark.parametrize("path", ROUTES)
def test_a_body_that_does_not_come_is_waited_for_so_long(
    path: str, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.1)
    head = f"POST {path} HTTP/1.1\r\n".encode() + HOST + JSON
    answer = sent(client, head + b"Content-Length: 12\r\n\r\n{")
    assert status_of(answer) == 408
    content = answer.partition(b"\r\n\r\n")[2]
    assert code_of(path, httpx.Response(408, content=content)) == "body_too_slow"


def test_a_long_answer_is_not_taken_for_a_slow_body(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.1)
    with client.stream("POST", "/generate", json={"text": "a", "stream": True}) as answer:
        assert answer.status_code == 200
        assert len(answer.read()) > 10_000


@pytest.mark.parametrize("began", [b"", b"GET /livez HTTP/1.1\r\nHost: loc", b"GET /livez\r\n"])
def test_a_head_that_does_not_come_is_waited_for_so_long(
    began: bytes, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.1)
    assert sent(client, began) == b""


def test_the_head_of_a_second_request_is_waited_for_no_longer(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.1)
    answer = sent(client, b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\nGET /livez HTT")
    assert answer.count(b"HTTP/1.1 200 OK") == 1
