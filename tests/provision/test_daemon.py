"""Docker's configuration: what is merged into it, what stays, and what cannot be read."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from provision._daemon import OUR_DAEMON, Merged, merge_daemon
from provision._docker import Refusal
from provision._toolkit import NVIDIA_RUNTIME


def merged(existing: str | None, wanted: Mapping[str, Any]) -> Merged:
    result = merge_daemon(existing, wanted)
    assert isinstance(result, Merged)
    return result


def test_a_host_without_a_configuration_gets_what_is_wanted() -> None:
    result = merged(None, OUR_DAEMON)
    assert json.loads(result.text) == OUR_DAEMON
    assert result.changed == tuple(OUR_DAEMON)


@pytest.mark.parametrize("existing", ["", "\n", "{}"])
def test_an_empty_file_holds_no_settings(existing: str) -> None:
    assert json.loads(merged(existing, {"live-restore": True}).text) == {"live-restore": True}


def test_what_somebody_else_has_set_stays() -> None:
    foreign: dict[str, Any] = {"mtu": 1400, "runtimes": {"kata": {"path": "kata-runtime"}}}
    result = json.loads(merged(json.dumps(foreign), NVIDIA_RUNTIME).text)
    assert result["mtu"] == 1400
    assert result["runtimes"] == {**foreign["runtimes"], **NVIDIA_RUNTIME["runtimes"]}


def test_a_value_that_contradicts_stays_and_is_told_of() -> None:
    result = merged('{"live-restore": false}', {"live-restore": True})
    assert result.changed == ()
    assert result.kept == ("live-restore stays false, true was to be set",)
    assert not result.live_restore


def test_a_runtime_of_the_same_name_elsewhere_stays() -> None:
    foreign = '{"runtimes": {"nvidia": {"path": "/opt/nvidia-container-runtime", "args": []}}}'
    result = merged(foreign, NVIDIA_RUNTIME)
    assert result.changed == ()
    assert "runtimes.nvidia.path stays" in result.kept[0]


def test_the_options_of_one_log_driver_are_not_given_to_another() -> None:
    result = merged('{"log-driver": "journald"}', OUR_DAEMON)
    assert "log-opts" not in json.loads(result.text)
    assert result.changed == ("live-restore",)


def test_options_of_the_same_log_driver_are_merged_one_by_one() -> None:
    result = merged('{"log-opts": {"max-size": "1m", "labels": "a"}}', OUR_DAEMON)
    assert json.loads(result.text)["log-opts"] == {
        "max-size": "1m",
        "labels": "a",
        "max-file": "3",
    }


def test_a_file_that_has_what_is_wanted_is_not_changed() -> None:
    text = merged('{"mtu": 1400}', OUR_DAEMON).text
    again = merged(text, OUR_DAEMON)
    assert (again.text, again.changed) == (text, ())


@pytest.mark.parametrize(
    ("wanted", "needs_restart"),
    [(NVIDIA_RUNTIME, False), ({"live-restore": True}, False), (OUR_DAEMON, True)],
)
def test_only_what_no_signal_brings_needs_a_new_start(
    wanted: Mapping[str, Any], needs_restart: bool
) -> None:
    assert merged('{"mtu": 1400}', wanted).needs_restart is needs_restart


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{\n  "mtu": 1400,\n}\n', "line 3: the file is not JSON"),
        ('{\n  "mtu": 1400\n', "line 3: the file is not JSON"),
        ('// ours\n{"mtu": 1400}', "line 1: the file is not JSON"),
        ('{\n  "mtu": 1400,\n  "mtu": 1500\n}', "line 3: the file names mtu twice"),
        ("[]", "line 1: the file holds no table"),
        ('\ufeff{"mtu": 1400}', "line 1: the file begins with a byte order mark"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_its_place(text: str, fault: str) -> None:
    refusal = merge_daemon(text, {})
    assert isinstance(refusal, Refusal)
    assert f"/etc/docker/daemon.json, {fault}" in refusal.reason
    assert "then deploy again" in refusal.remedy
