"""How a frame is run: replayed from one CUDA graph for each batch size, or plainly elsewhere.

A frame at batch 1 is some 2,000 small kernels, whose launches take longer than they do. A graph
launches all of them at once. It knows neither utterances nor codes.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from service.csm.model import CSM, State
from service.csm.sampling import CANDIDATES

__all__ = ["CudaGraphs", "Graph", "GraphMaker", "Replay", "ladder"]

WARM_UPS = 3  # runs before a capture: kernels are chosen and workspaces allocated


class Graph(Protocol):
    """A recorded run."""

    def replay(self) -> None:
        """Run it again, over the same memory."""


GraphMaker = Callable[[Callable[[], object]], Graph]
"""Runs a function a few times, then records it."""


class Replay:
    """Steps a model by graphs, one for each batch size of a ladder.

    A batch runs in the smallest size that holds it; the slots above it step along unheard. What a
    graph cannot do, more candidates than usual, runs plainly.

    + sizes: ascending; the last one holds every slot.
    """

    def __init__(
        self, model: CSM, state: State, sizes: list[int], make_graph: GraphMaker | None
    ) -> None:
        self._model = model
        self._state = state
        self._graphs: dict[int, Graph] = {}
        if make_graph is None:
            return
        # From the largest down, so that the smaller ones find its memory in the pool.
        for size in reversed(sizes):
            self._graphs[size] = make_graph(_whole_step(model, state, size))

    def __call__(self, batch: int, reach: int, candidates: int) -> Tensor:
        """Give the next codes `[batch, Q]`, a view of the state.

        + reach, candidates: as for `CSM.step`; a graph looks at all positions.
        """
        size = min((size for size in self._graphs if size >= batch), default=None)
        if size is None or candidates > CANDIDATES:
            return self._model.step(self._state, batch, reach, candidates)
        self._graphs[size].replay()
        return self._state.codes[:batch]


def ladder(slots: int) -> list[int]:
    """Give the batch sizes to record for so many slots: powers of two, and the slots themselves."""
    sizes = [1 << bit for bit in range(slots.bit_length()) if 1 << bit < slots]
    return [*sizes, slots]


class CudaGraphs:
    """Makes CUDA graphs that share one pool of memory: they never run at once."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, run: Callable[[], object]) -> Graph:
        """Warm a function up on a side stream and record it."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                run()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            run()
        return graph


def _whole_step(model: CSM, state: State, batch: int) -> Callable[[], object]:
    @torch.inference_mode()
    def run() -> object:
        return model.step(state, batch)

    return run
