"""Keeps the standard library as it is for the other tests of this process.

pyinfra's command line, which its testing package imports, patches sockets, threads and subprocesses
for gevent as soon as it is imported. Nothing in these tests runs the command line.
"""

from importlib import import_module
from unittest import mock

from gevent import monkey

with mock.patch.object(monkey, "patch_all"):
    import_module("pyinfra_cli")
