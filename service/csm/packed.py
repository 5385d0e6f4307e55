"""CSM on the CPU with weights of 8 or 4 bits, run by ONNX Runtime.

There are two sessions: the backbone, and a whole frame of the depth decoder. The keys and values
stay in the torch tensors of a `State`; the sessions are given their addresses. It knows neither
files nor what a prompt is.
"""

import os
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from service.csm import graph
from service.csm.config import CsmConfig
from service.csm.model import CSM, State
from service.csm.quantise import Bits, Quantised, QuantiseError, quantise
from service.csm.transformer import Cache

# From 1.29 on it reports to its maker, unless it is told not to before it is loaded.
os.putenv("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime

__all__ = ["PackedCSM", "Session"]

HEADS = ("head.", "depth_heads.")
"""Their products keep 8 bits whatever the others have: nothing after them evens their error out."""

THREADING: Mapping[str, str] = {
    "session.intra_op.spin_duration_us": "100",
    "session.force_spinning_stop": "1",
}
"""How long a thread looks out for work before it sleeps, and that it does not after a run.

Between two products lie some 50 µs: threads that sleep there make a frame a seventh slower. Threads
that go on looking take the cores from the other session and from the codec: on two cores, a frame
takes four times as long.
"""

HEAD_WIDTHS = 16  # `GroupQueryAttention` wants a multiple of it
QUIET = 3  # of ONNX Runtime's log levels: errors and worse
ELEMENTS: Mapping[torch.dtype, type[np.generic]] = {
    torch.float32: np.float32,
    torch.int32: np.int32,
    torch.int64: np.int64,
}


class PackedCSM(CSM):
    """The model in products of whole numbers; all between them is float32.

    A row's activations are rounded by scales of its own, so whoever shares a batch spoils nothing.
    The threads are as many as torch has when the model is made.
    """

    def __init__(
        self, config: CsmConfig, tensors: Iterable[tuple[str, Tensor]], bits: Bits | None
    ) -> None:
        """Quantise the weights one by one, and hand them to ONNX Runtime.

        + tensors: those of `TorchCSM.state_dict()`, embeddings first.
        + bits: None leaves the products in float32, which shows that the graphs are right.

        Raises:
            QuantiseError: The weights or shapes do not suit it.
        """
        _check_heads(config)
        self.config = config
        products: dict[str, Tensor | Quantised] = {}
        others: dict[str, Tensor] = {}
        for name, tensor in tensors:
            if name == "text_embedding.weight":
                self.text_embedding = nn.Embedding.from_pretrained(tensor)
            elif name == "audio_embedding.weight":
                self.audio_embedding = nn.Embedding.from_pretrained(tensor)
            elif tensor.dim() == 1:  # a norm
                others[name] = _finite(name, tensor.float())
            else:
                products[name] = _pack(name, tensor, bits)
            if name == "projection.weight":
                others["depth_rows"] = self._project(tensor.float())
        weights = graph.Weights(products, others)
        self._backbone = Session(graph.backbone(config, weights))
        self._depth = Session(graph.depth(config, weights))

    def _project(self, projection: Tensor) -> Tensor:
        """Give the depth decoder's inputs for every code: `[Q - 1, V, W']`.

        The last codebook has none: its code is the frame's last.
        """
        books, codes = self.config.codebooks - 1, self.config.audio_vocabulary
        table = self.audio_embedding.weight[: books * codes]
        rows = torch.empty(books, codes, len(projection))
        for book, part in enumerate(table.unflatten(0, (books, codes))):
            torch.mm(part.float(), projection.T, out=rows[book])
        return rows

    def state(self, slots: int, positions: int | None = None) -> State:
        """Allocate for `slots` sequences of up to `positions` rows (default: all the model has)."""
        return State.empty(
            self.config, slots, positions, device=torch.device("cpu"), dtype=torch.float32
        )

    def _read(self, x: Tensor, cache: Cache, start: int) -> Tensor:
        x = x.float()
        last = torch.tensor([start + len(x) - 1], dtype=torch.int32)
        hidden = self._run_backbone(x[None], cache, last, start + len(x))[0]
        if not hidden.isfinite().all():
            # Rounding swallows what is not finite. So that the slot's frames say it, it is put
            # where attention finds it.
            cache.values[:, :, :, start] = torch.nan
        return hidden

    def _frame(self, state: State, batch: int, reach: int, noise: Tensor) -> tuple[Tensor, Tensor]:
        last = state.lengths[:batch].int()
        hidden = self._run_backbone(
            state.inputs[:batch, None], state.cache.slots(0, batch), last, reach
        )
        codes, deep = self.depth_frame(hidden, noise)
        return codes, (hidden.sum(dim=(1, 2)) + deep.sum(dim=(1, 2))).isfinite()

    def depth_frame(self, hidden: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Draw codes `[B, Q]` from the backbone's `[B, 1, W]` with noise `[B, Q, C]`.

        Gives also what all but the first were drawn from: `[B, Q - 1, W']`, before the heads.
        """
        batch, books = len(hidden), self.config.codebooks
        last = torch.arange(1, books, dtype=torch.int32).repeat_interleave(batch)
        codes = torch.empty(batch, books, dtype=torch.int64)
        deep = torch.empty(batch, books - 1, self.config.depth.width)
        self._depth.run({"hidden": hidden, "noise": noise, "last": last}, [codes, deep])
        return codes, deep

    def _run_backbone(self, x: Tensor, cache: Cache, last: Tensor, reach: int) -> Tensor:
        hidden = torch.empty_like(x)
        inputs = {"rows": x, "last": last, "reach": torch.tensor(reach, dtype=torch.int32)}
        caches = []
        for layer, (keys, values) in enumerate(zip(cache.keys, cache.values, strict=True)):
            inputs |= {f"keys.{layer}": keys, f"values.{layer}": values}
            caches += [keys, values]
        self._backbone.run(inputs, [hidden, *caches])
        return hidden


def _check_heads(config: CsmConfig) -> None:
    for name, stack in (("backbone", config.backbone), ("depth decoder", config.depth)):
        if stack.head_width % HEAD_WIDTHS:
            raise QuantiseError(
                f"the heads of the {name} are {stack.head_width} wide,"
                f" and must be a multiple of {HEAD_WIDTHS}"
            )


def _pack(name: str, weight: Tensor, bits: Bits | None) -> Tensor | Quantised:
    if bits is None:
        return weight.float()
    try:
        return quantise(weight, 8 if name.startswith(HEADS) else bits)
    except QuantiseError as error:
        raise QuantiseError(f"{name}: {error}") from error


def _finite(name: str, norm: Tensor) -> Tensor:
    # What is not finite would be swallowed by the rounding of the activations.
    if not norm.isfinite().all():
        raise QuantiseError(f"{name}: a weight is not finite")
    return norm


class Session:
    """A program that ONNX Runtime runs on torch tensors where they are."""

    def __init__(self, program: graph.Program) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = QUIET
        options.intra_op_num_threads = torch.get_num_threads()
        for name, value in THREADING.items():
            options.add_session_config_entry(name, value)
        options.add_external_initializers(
            list(program.weights),
            [
                onnxruntime.OrtValue.ortvalue_from_numpy(tensor.contiguous().numpy())
                for tensor in program.weights.values()
            ],
        )
        self._outputs = program.outputs
        self._session = onnxruntime.InferenceSession(
            program.graph, options, providers=["CPUExecutionProvider"]
        )

    def run(self, inputs: dict[str, Tensor], outputs: list[Tensor]) -> None:
        """Run once; what it gives is written into `outputs`."""
        binding = self._session.io_binding()
        for name, tensor in inputs.items():
            binding.bind_input(name, *_place(tensor))
        for name, tensor in zip(self._outputs, outputs, strict=True):
            binding.bind_output(name, *_place(tensor))
        self._session.run_with_iobinding(binding)


def _place(tensor: Tensor) -> tuple[str, int, type[np.generic], list[int], int]:
    return "cpu", 0, ELEMENTS[tensor.dtype], list(tensor.shape), tensor.data_ptr()
