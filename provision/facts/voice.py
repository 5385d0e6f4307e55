"""Whether the voice of a host speaks, as the check program tells it."""

import json
import shlex
from typing import Any

from pyinfra.api import FactBase, StringCommand

LATENCY_REQUESTS = 2  # a first impression: the one is the median, the other the worst
CHECKS_TIMEOUT_SECONDS = 150  # the program itself ends after 120


class VoiceReport(FactBase[dict[str, Any] | None]):
    """Returns the report of the check program, run on the host from the service's own image.

    It runs in the host's network, so that a loopback bind is reached. ``{"error": …}`` says that
    the program itself could not run; None, that there is no Docker yet.

    + image: image of the service
    + url: where the voice listens, as the host sees it
    + key_file: file on the host that holds the server key, if one is demanded
    """

    def command(self, image: str, url: str, key_file: str | None = None) -> StringCommand:
        mount = ["--volume", f"{key_file}:/run/secrets/server_key:ro"] if key_file else []
        key = ["--key-file", "/run/secrets/server_key"] if key_file else []
        words = [
            *("docker", "run", "--rm", "--network", "host", "--read-only", "--cap-drop", "ALL"),
            *("--security-opt", "no-new-privileges", "--pull", "never", *mount),
            *(image, "python", "-m", "checks", url, "--json", "-"),
            *("--latency-requests", str(LATENCY_REQUESTS), *key),
        ]
        return StringCommand(f"timeout {CHECKS_TIMEOUT_SECONDS}", shlex.join(words), "2>&1 || true")

    def requires_command(self, *_args: object, **_kwargs: object) -> str:
        return "docker"

    def process(self, output: list[str]) -> dict[str, Any] | None:
        text = "\n".join(output).strip()
        try:
            report, _ = json.JSONDecoder().raw_decode(text, max(text.find("{"), 0))
        except ValueError:
            return {"error": text or "it ended without a word"}
        return dict(report)
