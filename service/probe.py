"""Ask one URL whether all is well, for a container's health check: `python -m service.probe URL`.

It imports nothing of the service, so that it starts fast; exit code 0 on HTTP 200, else 1.
"""

import sys
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

__all__ = ["main"]

TIMEOUT = 4.0  # seconds; under the time-out that Compose gives a health check by default


def main(arguments: list[str]) -> int:
    """Probe the URL given as the only argument and return the exit code."""
    if len(arguments) != 1:
        return _fail("usage: python -m service.probe URL")
    url = arguments[0]
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        return _fail(f"not an http:// URL: {url}")
    try:
        with closing(HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT)) as connection:
            connection.request("GET", parts.path or "/")
            status = connection.getresponse().status
    except (OSError, HTTPException, ValueError) as error:
        return _fail(f"{url}: {type(error).__name__}: {error}")
    return 0 if status == 200 else _fail(f"{url}: HTTP {status}")


def _fail(line: str) -> int:
    sys.stderr.write(line + "\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
