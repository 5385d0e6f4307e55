"""Keeps the standard library as it is for the other tests of this process.

pyinfra's command line, which its testing package imports, patches sockets, threads and subprocesses
for gevent as soon as it is imported. Nothing in these tests runs the command line. And that
package stops the clock for a fact by patching every module there is: torch has thousands, and the
client of ElevenLabs builds its models when it is looked at.
"""

from importlib import import_module
from unittest import mock

import freezegun
from gevent import monkey

freezegun.configure(extend_ignore_list=["torch", "transformers", "elevenlabs", "huggingface_hub"])

with mock.patch.object(monkey, "patch_all"):
    import_module("pyinfra_cli")
