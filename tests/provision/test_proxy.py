"""The proxies of a host, found by a real shell in a real file and by apt's own reader."""

import os
import stat
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from provision._proxy import (
    BUILD_ARGUMENTS,
    CONTAINER_VARIABLES,
    DAEMON_PROXY_FILE,
    DAEMON_STATE,
    DAEMON_WANTED,
    DROP_IN,
    DROP_IN_TEXT,
    DROP_INS,
    ENVIRONMENT_FILE,
    NEAR,
    OF_APT,
    PROXIES,
)

PROXY = "http://someone:p%40ss%24@proxy.example:3128"
OTHER = "http://other.example:8080"
NEARBY = ",".join(NEAR)

Find = Callable[..., dict[str, str]]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder that stands for the root of a host that has no proxy."""
    (tmp_path / "environment").touch()
    (tmp_path / "apt.conf").write_text(
        'Dir::Etc::Parts "/nowhere"; Dir::Etc::Main "/nowhere";\n', encoding="utf-8"
    )
    return tmp_path


def shell(place: Path, *lines: str, environment: Mapping[str, str] | None = None) -> str:
    """Run lines as operations do, with the files of a host below a folder."""
    text = "\n".join(("set -eu", *lines)).replace(ENVIRONMENT_FILE, f"{place}/environment")
    for path in (DAEMON_PROXY_FILE, DROP_INS):
        text = text.replace(path, f"{place}{path}")
    return subprocess.run(
        ["sh", "-c", text],
        env={
            "PATH": os.environ["PATH"],
            "APT_CONFIG": str(place / "apt.conf"),
            **(environment or {}),
        },
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@pytest.fixture
def find(place: Path) -> Find:
    """Return what a program that the lines precede sees of proxies."""

    def find(
        *lines: str, file: str = "", apt: str = "", environment: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        (place / "environment").write_text(file, encoding="utf-8")
        with (place / "apt.conf").open("a", encoding="utf-8") as configuration:
            configuration.write(apt)
        said = shell(place, *PROXIES, *lines, "env", environment=environment).splitlines()
        return {
            name: value
            for name, _, value in (line.partition("=") for line in said)
            if name.lower().endswith("_proxy")
        }

    return find


def both(**values: str) -> dict[str, str]:
    return {**values, **{name.upper(): value for name, value in values.items()}}


def test_a_host_without_proxies_has_none(find: Find) -> None:
    assert find() == {}


def test_both_spellings_have_what_one_says(find: Find) -> None:
    found = find(environment={"http_proxy": OTHER, "HTTPS_PROXY": PROXY})
    assert found == both(http_proxy=OTHER, https_proxy=PROXY, no_proxy=NEARBY)


def test_lower_case_comes_before_upper_case(find: Find) -> None:
    found = find(environment={"http_proxy": PROXY, "HTTP_PROXY": OTHER})
    assert found == both(http_proxy=PROXY, no_proxy=NEARBY)


@pytest.mark.parametrize(
    "line",
    [
        f"https_proxy={PROXY}",
        f'https_proxy="{PROXY}"',
        f"https_proxy='{PROXY}'",
        f"  export HTTPS_PROXY={PROXY}  ",
        f"https_proxy={PROXY} # ours",
        f"https_proxy={OTHER}\nhttps_proxy={PROXY}",
        f"#https_proxy={OTHER}\nhttps_proxy={PROXY}\n#https_proxy={OTHER}",
        f"not_https_proxy={OTHER}\nhttps_proxy={PROXY}",
    ],
)
def test_the_file_of_pam_env_is_read_as_pam_reads_it(find: Find, line: str) -> None:
    assert find(file=f"{line}\n") == both(https_proxy=PROXY, no_proxy=NEARBY)


def test_the_environment_comes_before_the_file(find: Find) -> None:
    found = find(file=f"https_proxy={OTHER}\n", environment={"HTTPS_PROXY": PROXY})
    assert found == both(https_proxy=PROXY, no_proxy=NEARBY)


def test_an_empty_variable_says_that_there_is_no_proxy(find: Find) -> None:
    apt = f'Acquire::https::Proxy "{OTHER}";'
    assert find(file=f"https_proxy={OTHER}\n", apt=apt, environment={"https_proxy": ""}) == {}


def test_the_file_comes_before_apt(find: Find) -> None:
    found = find(file=f"https_proxy={PROXY}\n", apt=f'Acquire::https::Proxy "{OTHER}";')
    assert found == both(https_proxy=PROXY, no_proxy=NEARBY)


def test_for_https_apt_is_asked_last(find: Find) -> None:
    found = find(apt=f'Acquire::https::Proxy "{PROXY}";')
    assert found == both(https_proxy=PROXY, no_proxy=NEARBY)


def test_a_store_of_packages_is_no_proxy_for_others(find: Find) -> None:
    assert find(apt=f'Acquire::http::Proxy "{OTHER}";') == {}


@pytest.mark.parametrize("word", ["DIRECT", "false"])
def test_the_words_of_apt_for_none_are_no_proxy(find: Find, word: str) -> None:
    assert find(apt=f'Acquire::https::Proxy "{word}";') == {}


def test_an_address_without_a_protocol_is_one_of_http(find: Find) -> None:
    found = find(environment={"http_proxy": "proxy.example:3128"})
    assert found["http_proxy"] == "http://proxy.example:3128"


def test_what_is_near_is_added_to_what_needs_no_proxy(find: Find) -> None:
    found = find(environment={"http_proxy": OTHER, "no_proxy": "localhost, .example.org"})
    assert found["NO_PROXY"] == "localhost,.example.org,127.0.0.1,::1,172.17.0.1"


def test_a_star_stays_alone(find: Find) -> None:
    assert find(environment={"http_proxy": OTHER, "no_proxy": "*"})["no_proxy"] == "*"


def test_from_its_own_mirrors_comes_what_apt_fetches_as_apt_fetches_it(find: Find) -> None:
    found = find(
        *OF_APT,
        apt=f'Acquire::http::Proxy "{OTHER}"; Acquire::https::Proxy "DIRECT";',
        environment={"http_proxy": PROXY, "https_proxy": PROXY},
    )
    assert found["http_proxy"] == OTHER
    assert "https_proxy" not in found


def test_only_names_of_what_is_set_are_given_on(place: Path) -> None:
    said = shell(
        place,
        *PROXIES,
        f"printf '%s\\n' {BUILD_ARGUMENTS} {CONTAINER_VARIABLES}",
        environment={"https_proxy": PROXY},
    )
    assert said.split() == [
        *("--build-arg", "https_proxy", "--build-arg", "HTTPS_PROXY"),
        *("--build-arg", "no_proxy", "--build-arg", "NO_PROXY"),
        *("--env", "https_proxy", "--env", "no_proxy"),
    ]


def wanted(place: Path, **environment: str) -> str:
    return shell(place, *DAEMON_WANTED, "printf '%s\\n' \"$wanted\"", environment=environment)


def test_the_daemon_has_what_the_host_has(place: Path) -> None:
    assert wanted(place, http_proxy=OTHER, https_proxy=PROXY) == (
        f'HTTP_PROXY="{OTHER}"\nHTTPS_PROXY="{PROXY}"\nNO_PROXY="{NEARBY}"\n'
    )


def test_what_systemd_would_read_otherwise_is_escaped(place: Path) -> None:
    said = wanted(place, https_proxy='http://a:%25"\\$`@b:1')
    assert 'HTTPS_PROXY="http://a:%25\\"\\\\\\$\\`@b:1"' in said


def test_a_drop_in_of_somebody_else_holds(place: Path) -> None:
    drop_ins = Path(f"{place}{DROP_INS}")
    drop_ins.mkdir(parents=True)
    (drop_ins / "http-proxy.conf").write_text(
        f'[Service]\nEnvironment="HTTP_PROXY={OTHER}"\n', encoding="utf-8"
    )
    assert wanted(place, https_proxy=PROXY).strip() == ""


@pytest.fixture
def daemon(place: Path) -> Path:
    """The file of a daemon that was given a proxy, as root writes it."""
    file, drop_in = Path(f"{place}{DAEMON_PROXY_FILE}"), Path(f"{place}{DROP_IN}")
    for path in (file, drop_in):
        path.parent.mkdir(parents=True)
    file.write_text(wanted(place, https_proxy=PROXY), encoding="utf-8")
    file.chmod(stat.S_IRUSR | stat.S_IWUSR)
    drop_in.write_text(
        DROP_IN_TEXT.replace(DAEMON_PROXY_FILE, f"{place}{DAEMON_PROXY_FILE}"), encoding="utf-8"
    )
    return file


def state(place: Path, **environment: str) -> str:
    owner = f"600 {os.getuid()}"
    lines = [line.replace("600 0", owner) for line in DAEMON_STATE]
    return shell(place, *lines, environment=environment).strip()


def test_nothing_is_wanted_of_a_daemon_on_a_host_without_proxies(place: Path) -> None:
    assert state(place) == "same"


@pytest.mark.usefixtures("daemon")
def test_a_daemon_that_has_the_proxies_is_left_alone(place: Path) -> None:
    assert state(place, https_proxy=PROXY) == "same"


@pytest.mark.usefixtures("daemon")
def test_a_daemon_with_another_proxy_differs(place: Path) -> None:
    assert state(place, https_proxy=OTHER) == "differs"


def test_a_daemon_whose_file_others_can_read_differs(daemon: Path, place: Path) -> None:
    daemon.chmod(0o644)
    assert state(place, https_proxy=PROXY) == "differs"


@pytest.mark.usefixtures("daemon")
def test_a_daemon_keeps_no_proxy_that_the_host_has_no_longer(place: Path) -> None:
    assert state(place) == "unwanted"
