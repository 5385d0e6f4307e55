"""Which graph a batch is run by. What records CUDA graphs needs a GPU and is not run here."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from service.csm import CSM, Replay, Sampling, State, TextTokenizer, Turn, admit, load, prompt_rows
from service.csm.replay import ladder
from service.csm.sampling import CANDIDATES


class Recorded:
    """Stands for a graph: runs what was recorded, and counts."""

    def __init__(self, run: Callable[[], object]) -> None:
        self._run = run
        self.replays = 0

    def replay(self) -> None:
        self.replays += 1
        self._run()


class Recorder:
    def __init__(self) -> None:
        self.graphs: list[Recorded] = []

    def __call__(self, run: Callable[[], object]) -> Recorded:
        self.graphs.append(Recorded(run))
        return self.graphs[-1]


@pytest.fixture(scope="module")
def model(tiny_folder: Path) -> CSM:
    return load(tiny_folder).model


def speaking(model: CSM, folder: Path, slots: int) -> State:
    state = model.state(slots, positions=64)
    rows = prompt_rows(TextTokenizer(folder / "tokenizer.json"), [Turn(0, "Hello.")], 32)
    for slot in range(slots):
        admit(model, state, slot, rows, Sampling(seed=slot), frames=9)
    return state


@pytest.mark.parametrize(
    ("slots", "sizes"), [(1, [1]), (2, [1, 2]), (4, [1, 2, 4]), (6, [1, 2, 4, 6])]
)
def test_the_ladder_has_powers_of_two_and_ends_with_all_slots(slots: int, sizes: list[int]) -> None:
    assert ladder(slots) == sizes


@pytest.mark.parametrize(("batch", "size"), [(1, 1), (2, 2), (3, 4), (4, 4)])
def test_a_batch_runs_in_the_smallest_graph_that_holds_it(
    model: CSM, tiny_folder: Path, batch: int, size: int
) -> None:
    plain, state = (speaking(model, tiny_folder, 4) for _ in range(2))
    recorder = Recorder()
    sizes = ladder(4)
    replay = Replay(model, state, sizes, recorder)
    with torch.inference_mode():
        wanted = model.step(plain, size)[:batch]
        codes = replay(batch, 64, CANDIDATES)
    assert torch.equal(codes, wanted)
    by_size = dict(zip(reversed(sizes), recorder.graphs, strict=True))
    assert [n for n, graph in by_size.items() if graph.replays] == [size]


def test_more_candidates_than_usual_run_without_a_graph(model: CSM, tiny_folder: Path) -> None:
    recorder = Recorder()
    replay = Replay(model, speaking(model, tiny_folder, 2), ladder(2), recorder)
    with torch.inference_mode():
        replay(1, 64, CANDIDATES + 1)
    assert not any(graph.replays for graph in recorder.graphs)


def test_without_graphs_it_is_the_models_own_step(model: CSM, tiny_folder: Path) -> None:
    plain, state = (speaking(model, tiny_folder, 2) for _ in range(2))
    with torch.inference_mode():
        wanted = model.step(plain, 2)
        assert torch.equal(Replay(model, state, [], None)(2, 64, CANDIDATES), wanted)
