"""The program that fills the model cache, against a hub on real sockets."""

import contextlib
import hashlib
import io
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from provision.facts.files import STATE_OF_FILE
from service.csm.checkpoint import INDEXES as INDEXES_OF_THE_ENGINE
from service.csm.checkpoint import PICKLES as PICKLES_OF_THE_ENGINE
from service.model_cache import __main__ as command
from service.model_cache import fill as filling
from service.model_cache import hub as asking
from service.model_cache import resolve as resolving
from service.model_cache.fill import fill
from service.model_cache.folder import Folder
from service.model_cache.hub import Hub
from service.model_cache.manifest import Manifest, ManifestError, ModelFile, shipped
from service.model_cache.progress import Bar, Lines
from service.model_cache.refusals import REFUSALS, RefusedError
from tests.provision.checkpoints import INDEX, SHARDS
from tests.service.model_hub import (
    COMMIT,
    FILES,
    NEEDED,
    REPOSITORY,
    TOKEN,
    Act,
    Asked,
    ModelHub,
    chunked,
    cut,
    serving,
    status,
)

WEIGHTS = SHARDS[0]
SIZE = len(FILES[WEIGHTS])
TIMEOUT = 20  # seconds; far beyond what any step takes


@pytest.fixture
def hub() -> Iterator[ModelHub]:
    with serving(ModelHub()) as hub:
        yield hub


@pytest.fixture(autouse=True)
def plain_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for nothing, and forget what this machine and other tests say of networks."""
    monkeypatch.setattr(filling, "PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    for name in ("HF_HUB_OFFLINE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@dataclass
class Ran:
    """What a run of the command said."""

    code: int
    out: str
    err: str

    @property
    def summary(self) -> dict[str, Any]:
        table: dict[str, Any] = json.loads(self.out.splitlines()[-1])
        return table


@dataclass
class Command:
    """Runs the command in this process, for one hub and one folder."""

    hub: ModelHub
    folder: Path
    work: Path
    capsys: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch
    endpoint: str | None = None

    def __call__(self, name: str, *more: str, token: str | None = None) -> Ran:
        source = more if name == "verify" else self._source(more, token)
        self.monkeypatch.setattr(sys, "stdin", io.StringIO(f"{token}\n" if token else "\n"))
        try:
            code = command.main([name, "--folder", str(self.folder), *source])
        except SystemExit as error:
            code = int(error.code or 0)
        said = self.capsys.readouterr()
        return Ran(code, said.out, said.err)

    def fill(self, *more: str, token: str | None = None) -> Ran:
        return self("fill", *more, token=token)

    def _source(self, more: tuple[str, ...], token: str | None) -> list[str]:
        source = ["--endpoint", self.endpoint or self.hub.url, *more]
        if not {"--manifest", "--repository"} & set(more):
            self.work.joinpath("wanted.json").write_text(self.hub.manifest().to_json())
            source += ["--manifest", str(self.work / "wanted.json")]
        return [*source, "--token-stdin"] if token is not None else source


@pytest.fixture
def run(
    hub: ModelHub,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Command:
    return Command(hub, tmp_path / "model", tmp_path, capsys, monkeypatch)


def contents(folder: Path) -> dict[str, bytes]:
    """Give the files of a model folder, without the program's own."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".") and path.name != "manifest.json"
    }


def needed(hub: ModelHub) -> dict[str, bytes]:
    return {path: hub.files[path] for path in NEEDED}


BY_NAME = ("--repository", REPOSITORY, "--revision", "main")


# What is fetched


def test_the_folder_holds_exactly_what_the_engine_reads(run: Command, hub: ModelHub) -> None:
    ran = run.fill()
    assert ran.code == 0, ran.err
    assert contents(run.folder) == needed(hub)


def test_the_summary_says_what_was_done(run: Command) -> None:
    summary = run.fill().summary
    assert summary.pop("seconds") >= 0
    assert summary == {
        "ok": True,
        "files": len(NEEDED),
        "fetched_bytes": sum(len(FILES[path]) for path in NEEDED),
        "repository": REPOSITORY,
        "revision": COMMIT,
    }


def test_a_repository_is_resolved_to_the_files_needed_at_its_commit(
    run: Command, hub: ModelHub
) -> None:
    ran = run.fill(*BY_NAME)
    assert ran.code == 0, ran.err
    assert contents(run.folder) == needed(hub)
    written = json.loads((run.folder / "manifest.json").read_text())
    assert written.pop("asked") == "main"
    assert written == json.loads(hub.manifest().to_json())


def test_a_single_file_of_weights_will_do(run: Command, hub: ModelHub) -> None:
    for path in (INDEX, *SHARDS):
        del hub.files[path]
    assert run.fill(*BY_NAME).code == 0
    assert "model.safetensors" in contents(run.folder)


def test_the_manifest_that_is_shipped_is_the_default(run: Command) -> None:
    ran = run("probe", "--repository", shipped().repository, "--revision", shipped().revision)
    assert "transformers-00001-of-00002.safetensors" in ran.summary["detail"]


def test_the_manifest_that_is_shipped_holds_what_is_known_of_the_model() -> None:
    manifest = shipped()
    assert (manifest.repository, manifest.revision, manifest.size) == (
        REPOSITORY,
        COMMIT,
        7_158_295_618,
    )


def test_the_engines_names_are_known() -> None:
    assert (resolving.INDEXES, resolving.PICKLES) == (INDEXES_OF_THE_ENGINE, PICKLES_OF_THE_ENGINE)


def test_the_real_client_understands_the_hub_of_these_tests(hub: ModelHub, tmp_path: Path) -> None:
    hub.gate["hf_refused"] = GATES["no_licence"][1]
    script = (
        "import sys; from huggingface_hub import HfApi, errors, hf_hub_download\n"
        "address, folder = sys.argv[1:]\n"
        f"model = dict(repo_id={REPOSITORY!r}, revision='main')\n"
        "here = dict(endpoint=address, local_dir=folder)\n"
        "listed = HfApi(address, token=False).model_info(**model, files_metadata=True).siblings\n"
        "print([file.lfs.sha256 for file in listed if file.lfs][-1])\n"
        f"hf_hub_download(filename={WEIGHTS!r}, **model, **here, token={TOKEN!r})\n"
        "here['local_dir'] += '/refused'\n"
        f"try: hf_hub_download(filename={WEIGHTS!r}, **model, **here, token='hf_refused')\n"
        "except errors.GatedRepoError: print('gated')\n"
    )
    environment = os.environ | {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script, hub.url, str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    last = hashlib.sha256(FILES["model.safetensors"]).hexdigest()
    assert done.stdout.split() == [last, "gated"], done.stderr
    assert (tmp_path / WEIGHTS).read_bytes() == FILES[WEIGHTS]


def test_files_are_asked_for_as_they_are(run: Command, hub: ModelHub) -> None:
    run.fill(*BY_NAME)
    assert {asked.headers["accept-encoding"] for asked in hub.seen} == {"identity"}


# Again


def test_a_second_run_asks_nobody_and_changes_nothing(run: Command, hub: ModelHub) -> None:
    run.fill()
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    hub.seen.clear()
    again = run.fill()
    assert (again.code, again.summary["fetched_bytes"], again.err) == (0, 0, "")
    assert hub.seen == []
    assert {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")} == before


def test_a_second_run_stays_on_the_commit_that_a_branch_had(run: Command, hub: ModelHub) -> None:
    run.fill(*BY_NAME)
    hub.commit = 40 * "a"
    hub.seen.clear()
    assert run.fill(*BY_NAME).summary["revision"] == COMMIT
    assert hub.seen == []


def test_what_belonged_to_another_model_is_removed(run: Command, hub: ModelHub) -> None:
    run.fill(*BY_NAME)
    hub.commit = 40 * "b"
    for path in (INDEX, *SHARDS):
        del hub.files[path]
    run.fill("--repository", REPOSITORY, "--revision", hub.commit)
    assert set(contents(run.folder)) == (set(NEEDED) - {INDEX, *SHARDS}) | {"model.safetensors"}


def test_who_may_not_have_another_model_keeps_the_one_there_is(run: Command, hub: ModelHub) -> None:
    run.fill()
    before = contents(run.folder)
    hub.gate[None] = GATES["no_token"][1]
    hub.commit = 40 * "b"
    hub.files["config.json"] = b'{"model_type": "csm", "newer": 1}'
    assert run.fill().summary["refusal"] == "no_token"
    assert contents(run.folder) == before
    assert run("verify").code == 0


def test_what_nobody_asked_for_is_left_alone(run: Command) -> None:
    run.folder.mkdir()
    (run.folder / "notes.txt").write_text("mine")
    run.fill()
    assert (run.folder / "notes.txt").read_text() == "mine"


def test_a_flipped_bit_is_found_and_only_that_file_fetched_again(
    run: Command, hub: ModelHub
) -> None:
    run.fill()
    place = run.folder / WEIGHTS
    place.write_bytes(bytes([FILES[WEIGHTS][0] ^ 1]) + FILES[WEIGHTS][1:])
    hub.seen.clear()
    ran = run.fill()
    assert ran.summary["fetched_bytes"] == SIZE
    assert hub.asked_for(WEIGHTS) == [""]
    assert contents(run.folder) == needed(hub)


def test_a_good_file_without_a_stamp_is_read_and_not_fetched(run: Command, hub: ModelHub) -> None:
    run.fill()
    (run.folder / ".verified").unlink()
    hub.seen.clear()
    ran = run.fill()
    assert (ran.summary["fetched_bytes"], hub.seen) == (0, [])
    assert f"{WEIGHTS} (reading)" in ran.err


def test_the_stamps_are_in_the_form_that_a_deploy_reads(run: Command, hub: ModelHub) -> None:
    run.fill()
    expected = []
    for path in sorted(NEEDED):
        state = subprocess.run(
            ["sh", "-c", f'{STATE_OF_FILE} "$1"', "sh", path],
            cwd=run.folder,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        expected.append(f"{hashlib.sha256(hub.files[path]).hexdigest()} {state} {path}")
    assert sorted((run.folder / ".verified").read_text().splitlines()) == sorted(expected)


def test_the_containers_user_can_read_every_file(run: Command) -> None:
    before = os.umask(0o077)
    try:
        run.fill()
    finally:
        os.umask(before)
    assert {(run.folder / path).stat().st_mode & 0o777 for path in NEEDED} == {0o644}
    assert (run.folder / "prompts").stat().st_mode & 0o777 == 0o755


# Cut off


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("count", [0, 1, 70_000, SIZE - 1])
def test_a_cut_connection_is_gone_on_from_within_the_run(
    run: Command, hub: ModelHub, count: int, *, reset: bool
) -> None:
    hub.then(WEIGHTS, cut(FILES[WEIGHTS], count, reset=reset))
    assert run.fill().code == 0
    first, second = hub.asked_for(WEIGHTS)
    assert first == ""
    # A reset may overtake bytes that were sent before it.
    assert reset or second == (f"bytes={count}-" if count else "")
    assert contents(run.folder) == needed(hub)


def test_whatever_arrives_renews_the_patience(run: Command, hub: ModelHub) -> None:
    hub.then(WEIGHTS, *(cut(FILES[WEIGHTS], 10_000) for _ in range(12)))
    assert run.fill().code == 0
    assert len(hub.asked_for(WEIGHTS)) == 13


def test_a_hub_that_brings_nothing_is_given_up(run: Command, hub: ModelHub) -> None:
    hub.then(WEIGHTS, *(cut(FILES[WEIGHTS], 0) for _ in range(12)))
    ran = run.fill()
    assert (ran.code, ran.summary["refusal"]) == (3, "cut")
    assert len(hub.asked_for(WEIGHTS)) == 1 + len(filling.PAUSES)


def test_a_later_run_goes_on_where_the_first_ended(run: Command, hub: ModelHub) -> None:
    hub.then(WEIGHTS, cut(FILES[WEIGHTS], 70_000), *(status(503) for _ in range(9)))
    assert run.fill().code == 3
    hub.acts.clear()
    hub.seen.clear()
    ran = run.fill()
    assert (ran.code, ran.summary["fetched_bytes"] < SIZE) == (0, True)
    assert hub.asked_for(WEIGHTS) == ["bytes=70000-"]


def test_a_damaged_beginning_is_found_and_fetched_anew(run: Command, hub: ModelHub) -> None:
    run.folder.mkdir()
    (run.folder / f"{WEIGHTS}.part").write_bytes(b"not the beginning")
    assert run.fill().code == 0
    assert hub.asked_for(WEIGHTS) == ["bytes=17-", ""]
    assert contents(run.folder) == needed(hub)


@pytest.mark.parametrize("excess", [0, 1])
def test_a_beginning_as_long_as_the_file_needs_no_range(
    run: Command, hub: ModelHub, excess: int
) -> None:
    run.folder.mkdir()
    (run.folder / f"{WEIGHTS}.part").write_bytes(FILES[WEIGHTS] + excess * b"x")
    assert run.fill().code == 0
    assert hub.asked_for(WEIGHTS) == excess * [""]


def test_a_hub_that_ignores_ranges_is_taken_at_its_word(run: Command, hub: ModelHub) -> None:
    hub.then(WEIGHTS, cut(FILES[WEIGHTS], 70_000), status(200, FILES[WEIGHTS]))
    assert run.fill().code == 0
    assert contents(run.folder) == needed(hub)


def test_a_hub_that_refuses_a_range_is_asked_for_the_whole(run: Command, hub: ModelHub) -> None:
    hub.then(WEIGHTS, cut(FILES[WEIGHTS], 70_000), status(416))
    assert run.fill().code == 0
    assert hub.asked_for(WEIGHTS) == ["", "bytes=70000-", ""]


def test_a_fault_of_the_hubs_passes(run: Command, hub: ModelHub) -> None:
    hub.then(WEIGHTS, status(503), status(429, Retry_After="0"), status(500))
    assert run.fill().code == 0


def held(sent: threading.Event, free: threading.Event, count: int) -> Act:
    """Send a part of the weights, then wait."""

    def act(asked: Asked) -> None:
        asked.start(200, SIZE)
        asked.handler.wfile.write(FILES[WEIGHTS][:count])
        sent.set()
        free.wait(TIMEOUT)
        with contextlib.suppress(OSError):
            asked.handler.wfile.write(FILES[WEIGHTS][count:])

    return act


def started(run: Command, **options: Any) -> subprocess.Popen[str]:
    """Start the command in a process of its own."""
    source = run._source((), None)
    arguments = [sys.executable, "-m", "service.model_cache", "fill", "--folder", str(run.folder)]
    return subprocess.Popen(
        [*arguments, *source],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_run_is_gone_on_from(
    run: Command, hub: ModelHub, signal_number: signal.Signals
) -> None:
    sent, free = threading.Event(), threading.Event()
    hub.then(WEIGHTS, held(sent, free, 70_000))
    with started(run) as process:
        assert sent.wait(TIMEOUT)
        part = run.folder / f"{WEIGHTS}.part"
        wait_until(lambda: part.exists() and part.stat().st_size > 0)
        process.send_signal(signal_number)
        out, _ = process.communicate(timeout=TIMEOUT)
    free.set()
    assert (process.returncode, "stopped" in out) in {(-signal.SIGKILL, False), (3, True)}
    arrived = part.stat().st_size
    hub.seen.clear()
    assert run.fill().code == 0
    assert hub.asked_for(WEIGHTS) == [f"bytes={arrived}-"]
    assert contents(run.folder) == needed(hub)


def wait_until(true: Callable[[], bool]) -> None:
    """Wait for what another process does, of which no event tells."""
    end = time.monotonic() + TIMEOUT
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


class Listened(Lines):
    """Lines, and an event when one holds certain words."""

    def __init__(self, words: str) -> None:
        super().__init__(io.StringIO())
        self.heard = threading.Event()
        self._words = words

    def note(self, text: str) -> None:
        super().note(text)
        if self._words in text:
            self.heard.set()


def test_a_second_run_beside_the_first_waits_and_then_finds_all_done(
    run: Command, hub: ModelHub
) -> None:
    sent, free = threading.Event(), threading.Event()
    hub.then(WEIGHTS, held(sent, free, 70_000))
    manifest = hub.manifest()
    waiting = Listened("waiting for it")

    def filled(teller: Lines) -> None:
        with Hub(hub.url) as client:
            fill(Folder(run.folder), lambda *_: manifest, lambda: client, teller)

    first = threading.Thread(target=filled, args=[Lines(io.StringIO())])
    second = threading.Thread(target=filled, args=[waiting])
    first.start()
    assert sent.wait(TIMEOUT)
    second.start()
    assert waiting.heard.wait(TIMEOUT)
    free.set()
    first.join()
    second.join()
    assert len(hub.asked_for(WEIGHTS)) == 1
    assert contents(run.folder) == needed(hub)


# Refusals: each row of the table, made to happen

Arrange = Callable[[Command], Ran]


def gated(token: str | None, answer: tuple[int, str, str]) -> Arrange:
    def arrange(run: Command) -> Ran:
        run.hub.gate[token] = answer
        return run.fill(token=token)

    return arrange


NAMED = f"Access to model {REPOSITORY} is restricted"
FINE_GRAINED = (
    "Please enable access to public gated repositories in your fine-grained token settings to view"
    " this repository."
)
GATES: dict[str, tuple[str | None, tuple[int, str, str]]] = {
    "no_token": (
        None,
        (
            401,
            "GatedRepo",
            f"{NAMED}. You must have access to it and be authenticated to access it.",
        ),
    ),
    "no_licence": (TOKEN, (403, "GatedRepo", f"{NAMED} and you are not in the authorized list.")),
    "licence_pending": (
        TOKEN,
        (403, "GatedRepo", "Your request to access it is awaiting a review from the repo authors."),
    ),
    "licence_denied": (TOKEN, (403, "GatedRepo", "Your request has been rejected by the authors.")),
    "wrong_token": (TOKEN, (401, "", "Invalid credentials in Authorization header")),
    "expired_token": (TOKEN, (401, "", 'User Access Token "maya" is expired')),
    "token_right": (TOKEN, (403, "", FINE_GRAINED)),
    "forbidden": (TOKEN, (403, "", "You do not have the rights.")),
    "disabled": (TOKEN, (403, "", "Access to this resource is disabled.")),
    "unexpected": (None, (418, "", "I'm a teapot")),
}


def weights(*acts: Act) -> Arrange:
    """Let the store answer for the weights as often as it is asked."""

    def arrange(run: Command) -> Ran:
        run.hub.then(WEIGHTS, *(act for _ in range(9) for act in acts))
        return run.fill()

    return arrange


def replaced(path: str, content: bytes | None, *options: str) -> Arrange:
    """Let the repository hold another file, or none, in a file's place."""

    def arrange(run: Command) -> Ran:
        run.hub.files.pop(path)
        if content is not None:
            run.hub.files[path] = content
        return run.fill(*(options or BY_NAME))

    return arrange


def at(endpoint: str) -> Arrange:
    def arrange(run: Command) -> Ran:
        run.endpoint = endpoint
        return run.fill()

    return arrange


def impatient(act: Act) -> Arrange:
    def arrange(run: Command) -> Ran:
        run.monkeypatch.setattr(asking, "TIMEOUTS", 0.2)
        return weights(act)(run)

    return arrange


def only_pickles(run: Command) -> Ran:
    for path in (INDEX, *SHARDS, "model.safetensors"):
        del run.hub.files[path]
    return run.fill(*BY_NAME)


def through_a_proxy(run: Command) -> Ran:
    run.monkeypatch.setenv("HTTPS_PROXY", run.hub.url)
    return at("https://hub.example")(run)


def over_tls(run: Command) -> Ran:
    return at(run.hub.url.replace("http:", "https:"))(run)


def from_a_closed_port(run: Command) -> Ran:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    return at(f"http://127.0.0.1:{port}")(run)


def test_nobody_is_asked_offline_for_a_list_either(run: Command, hub: ModelHub) -> None:
    run.monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert run.fill(*BY_NAME).summary["refusal"] == "offline"
    assert run("probe", *BY_NAME).summary["finding"] == "invalid"
    assert hub.seen == []


def by_nobody(run: Command) -> Ran:
    run.hub.then("the list", Asked.leave)
    return run.fill(*BY_NAME)


def in_circles(run: Command) -> Ran:
    here = f"{run.hub.url}/{REPOSITORY}/resolve/{COMMIT}/config.json"
    run.hub.then("config.json", *(status(302, Location=here) for _ in range(9)))
    return run.fill()


def offline(run: Command) -> Ran:
    run.monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return run.fill()


def without_room(run: Command) -> Ran:
    huge = Manifest(REPOSITORY, COMMIT, (ModelFile("huge.safetensors", 2**60, 64 * "0"),))
    (run.work / "huge.json").write_text(huge.to_json())
    return run.fill("--manifest", str(run.work / "huge.json"))


def at_a_file(run: Command) -> Ran:
    run.folder.write_text("")
    return run.fill()


def with_a_folder_in_the_way(run: Command) -> Ran:
    (run.folder / "config.json").mkdir(parents=True)
    return run.fill()


def with_a_limit(run: Command) -> Ran:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (70_000, 70_000))

    with started(run, preexec_fn=limit) as process:
        out, err = process.communicate(timeout=TIMEOUT)
    return Ran(process.returncode, out, err)


def with_a_foreign_token(run: Command) -> Ran:
    run.endpoint = asking.HUB_URL
    return run.fill(token="sk-of-another-house")


def without_weights(run: Command) -> Ran:
    manifest = run.hub.manifest().to_json()
    del run.hub.files[WEIGHTS]
    (run.work / "before.json").write_text(manifest)
    return run.fill("--manifest", str(run.work / "before.json"))


def never(asked: Asked) -> None:
    asked.closing.wait(TIMEOUT)


def half(asked: Asked) -> None:
    asked.start(200, SIZE)
    asked.handler.wfile.write(FILES[WEIGHTS][: SIZE // 2])
    asked.handler.wfile.flush()
    asked.closing.wait(TIMEOUT)


CASES: dict[str, Arrange] = {
    **{kind: gated(*gate) for kind, gate in GATES.items()},
    "not_a_token": with_a_foreign_token,
    "no_repository": lambda run: run.fill("--repository", "nobody/nothing", "--revision", "main"),
    "no_revision": lambda run: run.fill("--repository", REPOSITORY, "--revision", "absent"),
    "no_file": without_weights,
    "not_csm": replaced("config.json", b'{"model_type": "llama"}'),
    "original_format": replaced("config.json", b'{"backbone_flavor": "llama-1B"}'),
    "pickles": only_pickles,
    "incomplete": replaced(WEIGHTS, None),
    "longer": weights(chunked(FILES[WEIGHTS] + b"x")),
    "shorter": weights(status(200, FILES[WEIGHTS][:-1])),
    "wrong_hash": weights(status(200, FILES[WEIGHTS][::-1])),
    "compressed": weights(status(200, b"x", Content_Encoding="gzip")),
    "range": weights(status(416)),
    "not_a_hub": weights(status(200, b"<html>Log in", Content_Type="text/html; charset=utf-8")),
    "redirects": in_circles,
    "unknown_host": at("http://hub.invalid"),
    "connection_refused": from_a_closed_port,
    "unreachable": by_nobody,
    "timeout": impatient(never),
    "proxy": through_a_proxy,
    "cut": weights(cut(FILES[WEIGHTS], 0)),
    "stalled": impatient(half),
    "too_many": weights(status(429, Retry_After="300")),
    "failing": weights(status(503)),
    "store": weights(status(403)),
    "tls": over_tls,
    "offline": offline,
    "disk_full": without_room,
    "too_large": with_a_limit,
    "not_a_folder": at_a_file,
    "disk": with_a_folder_in_the_way,
}
ELSEWHERE = {"changed", "no_right", "no_space", "read_only"}
"""Rows that have a test of their own below."""


def test_every_refusal_is_made_to_happen() -> None:
    assert CASES.keys() | ELSEWHERE == REFUSALS.keys()


@pytest.mark.parametrize("kind", CASES)
def test_a_refusal_says_what_happened_and_what_to_do(run: Command, kind: str) -> None:
    ran = CASES[kind](run)
    summary = ran.summary
    assert (summary["ok"], summary["refusal"]) == (False, kind), summary
    assert summary["again"] is REFUSALS[kind].again
    assert ran.code == (3 if summary["again"] else 1)
    assert ran.err.endswith(f"{summary['detail']}\n  → {summary['next']}\n")


@pytest.mark.parametrize(
    ("status_", "code", "message", "kind"),
    [
        (401, "GatedRepo", NAMED, "wrong_token"),
        (401, "", "Invalid username or password.", "wrong_token"),
        (404, "RepoNotFound", "Repository not found", "no_repository"),
        (404, "", "Not Found", "not_a_hub"),
        (407, "", "", "proxy"),
        (408, "", "", "timeout"),
    ],
)
def test_an_answer_to_a_token_means(
    run: Command, status_: int, code: str, message: str, kind: str
) -> None:
    ran = gated(TOKEN, (status_, code, message))(run)
    assert ran.summary["refusal"] == kind


@pytest.mark.parametrize("kind", [*GATES, "not_a_token", "store", "cut", "wrong_hash"])
def test_no_refusal_tells_a_secret(run: Command, kind: str) -> None:
    ran = CASES[kind](run)
    for secret in (TOKEN, "sk-of-another-house", "secret-of-the-address", "Traceback"):
        assert secret not in ran.out + ran.err


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("no_token", f"https://huggingface.co/{REPOSITORY}"),
        ("no_licence", f"https://huggingface.co/{REPOSITORY}"),
        ("not_csm", "'llama'"),
        ("pickles", "ckpt.pt"),
        ("incomplete", WEIGHTS),
        ("shorter", f"{SIZE - 1} bytes, not {SIZE} bytes"),
        ("too_many", "300 s"),
        ("store", "127.0.0.1"),
        ("disk_full", "512 MiB"),
    ],
)
def test_a_refusal_names_the_value(run: Command, kind: str, words: str) -> None:
    summary = CASES[kind](run).summary
    assert words in f"{summary['detail']} {summary['next']}"


@pytest.mark.parametrize("kind", ["not_csm", "original_format", "pickles", "incomplete"])
def test_what_is_no_csm_is_refused_before_anything_large(run: Command, kind: str) -> None:
    CASES[kind](run)
    assert run.hub.asked_for(SHARDS[1] if SHARDS[1] in run.hub.files else "tokenizer.json") == []


@pytest.mark.parametrize("kind", ["unknown_host", "connection_refused", "unreachable"])
def test_who_never_answered_is_not_asked_twice(run: Command, kind: str) -> None:
    assert "asking again" not in CASES[kind](run).err


def test_a_body_without_end_is_cut_off_at_the_files_size(run: Command, hub: ModelHub) -> None:
    def endless(asked: Asked) -> None:
        asked.start(200, None, Transfer_Encoding="chunked")
        with contextlib.suppress(OSError):
            while not asked.closing.is_set():
                asked.handler.wfile.write(b"10000\r\n%b\r\n" % bytes(2**16))

    hub.then(WEIGHTS, endless)
    ran = run.fill()
    assert ran.summary["refusal"] == "longer"
    assert (run.folder / f"{WEIGHTS}.part").stat().st_size <= SIZE


def test_a_refusal_without_end_is_not_read(run: Command, hub: ModelHub) -> None:
    def endless(asked: Asked) -> None:
        asked.start(418, None, Transfer_Encoding="chunked")
        with contextlib.suppress(OSError):
            while not asked.closing.is_set():
                asked.handler.wfile.write(b"10000\r\n%b\r\n" % bytes(2**16))

    hub.then("config.json", endless)
    assert run.fill().summary["refusal"] == "unexpected"


def test_a_small_file_that_is_not_the_listed_one_is_refused(run: Command, hub: ModelHub) -> None:
    hub.served["config.json"] = b'{"model_type": "csm", "torn": true}'
    assert run.fill(*BY_NAME).summary["refusal"] == "wrong_hash"


def test_a_user_without_a_right_to_the_folder_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    before = os.geteuid()
    os.seteuid(65534 if before == 0 else before)
    try:
        with pytest.raises(RefusedError) as refused, Folder(tmp_path / "model").locked(print):
            pass
    finally:
        os.seteuid(before)
    assert refused.value.kind == "no_right"
    assert "chown" in refused.value.next_step


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 192 KiB, where that is allowed."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=192k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_disk_that_runs_full_midway_keeps_what_has_arrived(
    run: Command, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Folder, "check_room", lambda *_: None)
    run.folder = small_disk / "model"
    ran = run.fill()
    assert (ran.code, ran.summary["refusal"]) == (1, "no_space")
    assert (run.folder / f"{WEIGHTS}.part").stat().st_size > 0


def test_a_read_only_folder_is_told(run: Command, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    run.folder = small_disk / "model"
    assert run.fill().summary["refusal"] == "read_only"


# The token


def test_the_token_goes_to_the_hub_and_never_to_its_store(run: Command, hub: ModelHub) -> None:
    run.fill(*BY_NAME, token=TOKEN)
    shown = {(asked.place, asked.headers.get("authorization")) for asked in hub.seen}
    assert shown == {("hub", f"Bearer {TOKEN}"), ("store", None)}


def test_no_token_is_taken_from_the_environment(
    run: Command, hub: ModelHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    run.fill(*BY_NAME)
    assert not any("authorization" in asked.headers for asked in hub.seen)


def test_an_empty_line_is_no_token(run: Command, hub: ModelHub) -> None:
    assert run.fill(token="").code == 0
    assert not any("authorization" in asked.headers for asked in hub.seen)


def test_the_token_is_in_no_output_and_no_file(run: Command) -> None:
    ran = run.fill(*BY_NAME, token=TOKEN)
    assert TOKEN not in ran.out + ran.err
    assert not any(TOKEN.encode() in path.read_bytes() for path in files_of(run.folder))


def files_of(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


# Arguments


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--repository", REPOSITORY], "give both, or neither"),
        (["--repository", "a/b/c", "--revision", "main"], "OWNER/NAME"),
        (["--repository", REPOSITORY, "--revision", " "], "--revision is empty"),
        (["--endpoint", "ftp://hub.example"], "http:// or https://"),
        (["--endpoint", "https://maya:secret@hub.example"], "no user, password"),
        (["--manifest", "/nowhere.json"], "cannot be read: /nowhere.json"),
    ],
)
def test_bad_arguments_are_refused_by_name(
    run: Command, options: list[str], words: str, tmp_path: Path
) -> None:
    ran = plain(run, options)
    assert ran.code == 2
    assert words in ran.err
    assert "secret" not in ran.err
    assert not (tmp_path / "model").exists()


def plain(run: Command, options: list[str]) -> Ran:
    with pytest.raises(SystemExit) as exit_:
        command.main(["fill", "--folder", str(run.folder), *options])
    said = run.capsys.readouterr()
    return Ran(int(exit_.value.code or 0), said.out, said.err)


def test_a_token_that_no_header_can_hold_is_not_quoted(run: Command) -> None:
    ran = run.fill(token="hf_two words")
    assert ran.code == 2
    assert "two words" not in ran.err


GOOD = {"path": "config.json", "size": 1, "sha256": 64 * "0"}


@pytest.mark.parametrize(
    "entry",
    [
        {**GOOD, "path": "../etc/passwd"},
        {**GOOD, "path": "/etc/passwd"},
        {**GOOD, "path": ".lock"},
        {**GOOD, "path": "a/.hidden"},
        {**GOOD, "path": "manifest.json"},
        {**GOOD, "path": "a.part"},
        {**GOOD, "size": -1},
        {**GOOD, "size": "1"},
        {**GOOD, "sha256": "0"},
        {"path": "config.json"},
        "config.json",
    ],
)
def test_a_manifest_that_cannot_be_is_refused(entry: Any) -> None:
    with pytest.raises(ManifestError):
        Manifest.from_json(
            json.dumps({"repository": REPOSITORY, "revision": COMMIT, "files": [entry]})
        )


def test_a_manifest_needs_a_commit() -> None:
    with pytest.raises(ManifestError, match="main"):
        Manifest.from_json(
            json.dumps({"repository": REPOSITORY, "revision": "main", "files": [GOOD]})
        )


# Verify and probe


def test_a_whole_folder_verifies(run: Command) -> None:
    run.fill()
    ran = run("verify")
    assert (ran.code, ran.summary["ok"], ran.summary["faults"]) == (0, True, [])


def test_each_fault_is_named(run: Command) -> None:
    run.fill()
    (run.folder / "config.json").unlink()
    (run.folder / WEIGHTS).write_bytes(FILES[WEIGHTS][:-1])
    damaged = run.folder / SHARDS[1]
    state = damaged.stat()
    damaged.write_bytes(FILES[SHARDS[1]][::-1])
    # A stamp would still fit.
    os.utime(damaged, ns=(state.st_atime_ns, state.st_mtime_ns))
    ran = run("verify")
    assert ran.code == 1
    first, second, third = ran.summary["faults"]
    assert first == "config.json is missing"
    assert second == f"{WEIGHTS} is too short: {SIZE - 1} bytes, not {SIZE}"
    assert third.startswith(f"{SHARDS[1]} is damaged: its SHA-256 is ")


def test_a_folder_without_a_manifest_cannot_be_told(run: Command) -> None:
    assert run("verify").code == 2


def test_a_probe_says_ready_and_writes_nothing(run: Command) -> None:
    ran = run("probe", *BY_NAME, token=TOKEN)
    assert (ran.code, ran.summary["finding"], ran.summary["next"]) == (0, "ready", "")
    assert not run.folder.exists()


def test_a_probe_fetches_nothing_large(run: Command, hub: ModelHub) -> None:
    run("probe", *BY_NAME)
    assert not [asked for asked in hub.seen if asked.place == "store" and asked.method == "GET"]


def test_a_probe_of_a_gated_repository_says_where_to_accept(run: Command, hub: ModelHub) -> None:
    hub.gate[TOKEN] = GATES["no_licence"][1]
    ran = run("probe", token=TOKEN)
    assert (ran.code, ran.summary["finding"]) == (1, "invalid")
    assert f"https://huggingface.co/{REPOSITORY}" in ran.summary["next"]


def test_a_probe_of_nobody_says_unreachable(run: Command) -> None:
    run.endpoint = "http://hub.invalid"
    ran = run("probe")
    assert (ran.code, ran.summary["finding"]) == (2, "unreachable")


def test_a_probe_of_a_mirror_with_other_weights_says_so(run: Command, hub: ModelHub) -> None:
    (run.work / "before.json").write_text(hub.manifest().to_json())
    hub.files[WEIGHTS] = FILES[WEIGHTS][::-1]
    ran = run("probe", "--manifest", str(run.work / "before.json"))
    assert ran.code == 1
    assert "another file" in ran.summary["detail"]


# Progress


def test_a_log_gets_a_line_every_five_seconds_and_one_at_the_end() -> None:
    now = 0.0
    stream = io.StringIO()
    lines = Lines(stream, lambda: now)
    mib = 2**20
    lines.begin(WEIGHTS, 100 * mib, 4715 * mib)
    for _ in range(12):
        now += 1
        lines.advance(87 * mib)
    lines.finish("verified")
    assert stream.getvalue().splitlines() == [
        f"{WEIGHTS}: 535 of 4,715 MiB, 87 MiB/s, 48 s left",
        f"{WEIGHTS}: 970 of 4,715 MiB, 87 MiB/s, 43 s left",
        f"{WEIGHTS}: 4,715 MiB, verified",
    ]


def test_a_terminal_gets_a_bar() -> None:
    stream = io.StringIO()
    with Bar(stream) as bar:
        bar.begin(WEIGHTS, 0, 10)
        bar.advance(10)
        bar.note("a note")
        bar.finish("verified")
    assert "verified" in stream.getvalue()
    assert "a note" in stream.getvalue()
