"""What a host's shell makes of its proxies; run in a real one."""

import os
import subprocess
from pathlib import Path

import pytest

from provision._proxy import BUILD_ARGUMENTS, ENVIRONMENT_FILE, PROXIES, WANTED_DROP_IN

ADDRESS = "http://maya:p%20ss@proxy.example:3128"
LOOPBACK = "localhost,127.0.0.1,::1"
APT = '#!/bin/sh\n[ "$3" = Acquire::https::Proxy ] && echo "$2=\'{}\'"\n'


@pytest.fixture
def shell(tmp_path: Path) -> "Shell":
    return Shell(tmp_path)


class Shell:
    """A host's shell, with a file of its environment and an apt of ours."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "environment"

    def says(self, line: str) -> None:
        """Write a line into /etc/environment."""
        with self._file.open("a") as file:
            file.write(f"{line}\n")

    def apt_says(self, proxy: str) -> None:
        """Have apt's configuration name a proxy for https."""
        program = self._folder / "apt-config"
        program.write_text(APT.format(proxy))
        program.chmod(0o755)

    def run(self, *lines: str, **environment: str) -> str:
        """Run lines after those of the proxies; give what they say."""
        text = "\n".join(["set -eu", *PROXIES, *lines])
        return subprocess.run(
            ["sh", "-c", text.replace(ENVIRONMENT_FILE, str(self._file))],
            env={"PATH": f"{self._folder}:{os.defpath}", **environment},
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    def names(self, **environment: str) -> dict[str, str]:
        """Give the proxies that a program would see, by their names in small letters."""
        seen = dict(line.split("=", 1) for line in self.run("env", **environment).splitlines())
        proxies = {name: value for name, value in seen.items() if name.endswith("_proxy")}
        for name, value in proxies.items():
            assert seen[name.upper()] == value
        return proxies


def test_a_host_without_a_proxy_has_none(shell: Shell) -> None:
    assert shell.names() == {}


@pytest.mark.parametrize("name", ["https_proxy", "HTTPS_PROXY"])
def test_the_environment_names_a_proxy(name: str, shell: Shell) -> None:
    assert shell.names(**{name: ADDRESS}) == {"https_proxy": ADDRESS, "no_proxy": LOOPBACK}


@pytest.mark.parametrize(
    "line",
    [
        f"http_proxy={ADDRESS}",
        f'http_proxy="{ADDRESS}"',
        f"HTTP_PROXY='{ADDRESS}'",
        f"  export http_proxy={ADDRESS}",
    ],
)
def test_the_file_of_the_environment_names_a_proxy(line: str, shell: Shell) -> None:
    shell.says("PATH=/usr/bin:/bin")
    shell.says(line)
    assert shell.names() == {"http_proxy": ADDRESS, "no_proxy": LOOPBACK}


def test_the_environment_comes_before_the_file(shell: Shell) -> None:
    shell.says("http_proxy=http://old.example:1")
    assert shell.names(HTTP_PROXY=ADDRESS)["http_proxy"] == ADDRESS


def test_a_line_that_is_commented_out_names_none(shell: Shell) -> None:
    shell.says(f"# http_proxy={ADDRESS}")
    assert shell.names() == {}


def test_apt_names_a_proxy_for_https(shell: Shell) -> None:
    shell.apt_says(ADDRESS)
    assert shell.names() == {"https_proxy": ADDRESS, "no_proxy": LOOPBACK}


@pytest.mark.parametrize("word", ["DIRECT", "false"])
def test_apt_may_say_that_there_is_none(word: str, shell: Shell) -> None:
    shell.apt_says(word)
    assert shell.names() == {}


def test_loopback_is_never_asked_through_a_proxy(shell: Shell) -> None:
    names = shell.names(http_proxy=ADDRESS, no_proxy="mirror.lan")
    assert names["no_proxy"] == f"mirror.lan,{LOOPBACK}"


def test_a_build_is_given_names_and_no_value(shell: Shell) -> None:
    said = shell.run(f"echo {BUILD_ARGUMENTS}", https_proxy=ADDRESS)
    assert said.split() == [
        *("--build-arg", "https_proxy", "--build-arg", "no_proxy"),
        *("--build-arg", "HTTPS_PROXY", "--build-arg", "NO_PROXY"),
    ]
    assert shell.run(f"echo {BUILD_ARGUMENTS}").split() == []


def test_systemd_is_told_in_its_own_quotes(shell: Shell) -> None:
    said = shell.run(*WANTED_DROP_IN, 'printf %s "$wanted"', https_proxy='http://a:"b\\%@h:1')
    assert said.splitlines() == [
        "[Service]",
        'Environment="HTTPS_PROXY=http://a:\\"b\\\\%%@h:1"',
        f'Environment="NO_PROXY={LOOPBACK}"',
    ]


def test_without_a_proxy_systemd_is_told_nothing(shell: Shell) -> None:
    assert shell.run(*WANTED_DROP_IN, 'printf %s "$wanted"') == ""
