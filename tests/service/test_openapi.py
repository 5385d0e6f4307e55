"""What the document says of the API, held to a live service by generated requests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.app import create_app
from service.settings import ServiceSettings
from tests.service.serving import serving

pytestmark = pytest.mark.fuzz

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")

# Whether a text can be spoken and a voice is known no schema says.
UNSAID = "positive_data_acceptance"


def test_every_answer_is_as_the_document_says(tmp_path: Path) -> None:
    settings = ServiceSettings(model="", cache_bytes=0)
    with serving(create_app(settings)) as client:
        run = subprocess.run(
            [
                *(SCHEMATHESIS, "run", f"{client.base_url}/openapi.json", "--no-color"),
                *("--max-examples", os.environ.get("FUZZ_EXAMPLES", "10")),
                *("--exclude-checks", UNSAID, "--suppress-health-check", "all"),
                *(() if "FUZZ_EXAMPLES" in os.environ else ("--generation-deterministic",)),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
    assert run.returncode == 0, run.stdout
    assert "Selected: 20/20" in run.stdout
