"""The two stacks as ONNX graphs: what CSM computes, written for ONNX Runtime.

It knows the shapes of the model, and neither its weights nor what a slot is. The operators of the
domain `com.microsoft` are ONNX Runtime's own (its `docs/ContribOperators.md`). Shapes: B sequences,
T rows, N cached positions, W and W' the widths of the backbone and the depth decoder, K key-value
heads, D head width, Q codebooks, C candidates, V codes.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from service.csm.config import CsmConfig, TransformerConfig
from service.csm.quantise import Quantised
from service.csm.transformer import rope_angles

__all__ = ["Program", "Weights", "backbone", "depth", "product"]

OPSET = 21
IR_VERSION = 10  # the one of that operator set; the package would write its newest
MICROSOFT = "com.microsoft"
FLOAT, INT32, INT64 = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64
ELEMENTS = {torch.float32: FLOAT, torch.uint8: TensorProto.UINT8}

INT8_ACTIVATIONS = 4
"""`accuracy_level`: activations become int8 too, with a scale for each row and block."""


class Weights(NamedTuple):
    """The model's, by the names of `TorchCSM.state_dict()`.

    + products: of the linear layers, quantised or float32 `[N, K]`.
    + tensors: the others, float32; and `depth_rows` `[Q - 1, V, W']`, the audio embedding after the
      projection.
    """

    products: Mapping[str, Tensor | Quantised]
    tensors: Mapping[str, Tensor]


class Program(NamedTuple):
    """A graph without its weights, the weights by its names for them, and what it gives."""

    graph: bytes
    weights: Mapping[str, Tensor]
    outputs: tuple[str, ...]


def backbone(config: CsmConfig, weights: Weights) -> Program:
    """Write the backbone: rows are read, whether they are a prompt's or one for each slot.

    Inputs: `rows` `[B, T, W]`; `last` `[B]` int32, the position of each sequence's last row;
    `reach` int32, above every position; `keys.i` and `values.i` `[B, K, N, D]` of each layer.
    Outputs: the normed hidden states `[B, T, W]`, then keys and values of each layer, which must be
    the same memory as the inputs.
    """
    stack = config.backbone
    builder = _Builder(weights)
    rows = builder.input("rows", FLOAT, "B", "T", stack.width)
    last = builder.input("last", INT32, "B")
    reach = builder.input("reach", INT32)
    rope = builder.rope("backbone.rope", stack, stack.positions)
    shape = ("B", stack.kv_heads, "N", stack.head_width)
    caches = []

    def attend(layer: int, query_key_value: str) -> str:
        past = [builder.input(f"{kind}.{layer}", FLOAT, *shape) for kind in ("keys", "values")]
        seen, *present = builder.attention(query_key_value, past, last, reach, rope, stack)
        caches.extend(present)
        return seen

    hidden = builder.stack(rows, "backbone", stack, attend)
    builder.output(hidden, FLOAT, "B", "T", stack.width)
    for cache in caches:
        builder.output(cache, FLOAT, *shape)
    return builder.program("backbone")


def depth(config: CsmConfig, weights: Weights) -> Program:
    """Write a whole frame of the depth decoder, its positions one after the other.

    Inputs: `hidden` `[B, 1, W]` of the backbone; `noise` `[B, Q, C]`; `last` `[(Q - 1) * B]` int32:
    B times 1, B times 2, and so on. Outputs: the codes `[B, Q]` int64, and the decoder's hidden
    states that all but the first were drawn from, `[B, Q - 1, W']`.
    """
    stack, books = config.depth, config.codebooks
    builder = _Builder(weights)
    hidden = builder.input("hidden", FLOAT, "B", 1, config.backbone.width)
    noise = builder.input("noise", FLOAT, "B", books, "C")
    positions = builder.input("last", INT32, "BP")
    ranks = builder.split(noise, books, axis=1)
    last = builder.split(positions, books - 1, axis=0)
    candidates = builder.node("Shape", noise, start=2)
    rope = builder.rope("depth.rope", stack, books)
    table = [
        builder.weight(f"depth_rows.{book}", rows)
        for book, rows in enumerate(weights.tensors["depth_rows"])
    ]

    def draw(x: str, head: str, book: int) -> str:
        logits = builder.product(x, head)  # [B, 1, V]
        values, order = builder.nodes("TopK", logits, candidates, outputs=(0, 1))  # [B, 1, C]
        noisy = builder.node("Add", values, ranks[book])
        rank = builder.node("ArgMax", noisy, axis=-1)  # [B, 1, 1]
        return builder.node("GatherElements", order, rank, axis=-1)  # [B, 1, 1]

    def row(code: str, book: int) -> str:
        index = builder.node("Squeeze", code, builder.constant([2]))  # [B, 1]
        return builder.node("Gather", table[book], index)

    codes = [draw(hidden, "head", 0)]
    x = builder.product(hidden, "projection")  # [B, 1, W']
    x = builder.node("Concat", x, row(codes[0], 0), axis=1)  # [B, 2, W']
    caches: list[list[str]] = [["", ""] for _ in range(stack.layers)]
    deep = []
    for book in range(1, books):
        reach = builder.constant(book + 1, np.int32)

        def attend(layer: int, query_key_value: str, book: int = book, reach: str = reach) -> str:
            seen, *caches[layer] = builder.attention(
                query_key_value, caches[layer], last[book - 1], reach, rope, stack
            )
            return seen

        x = builder.stack(x, "depth", stack, attend)
        if book == 1:  # of the pair, the second row
            x = builder.node("Gather", x, builder.constant([1]), axis=1)  # [B, 1, W']
        deep.append(x)
        codes.append(draw(x, f"depth_heads.{book - 1}", book))
        x = row(codes[-1], book) if book + 1 < books else x
    said = builder.node("Concat", *codes, axis=1)  # [B, Q, 1]
    builder.output(builder.node("Squeeze", said, builder.constant([2])), INT64, "B", books)
    every = builder.node("Concat", *deep, axis=1)
    builder.output(every, FLOAT, "B", books - 1, stack.width)
    return builder.program("depth")


def product(weight: Tensor | Quantised) -> Program:
    """Write one linear layer: `x` `[B, K]` in, `[B, N]` out."""
    builder = _Builder(Weights({"linear.weight": weight}, {}))
    x = builder.input("x", FLOAT, "B", "K")
    builder.output(builder.product(x, "linear"), FLOAT, "B", "N")
    return builder.program("product")


class _Builder:
    """Collects the nodes of a graph. What is passed around are names of values."""

    def __init__(self, weights: Weights) -> None:
        self._products, self._tensors = weights
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[TensorProto] = []
        self._weights: dict[str, Tensor] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, element: int, *shape: int | str) -> str:
        self._inputs.append(helper.make_tensor_value_info(name, element, shape))
        return name

    def output(self, name: str, element: int, *shape: int | str) -> None:
        self._outputs.append(helper.make_tensor_value_info(name, element, shape))

    def constant(self, value: int | list[int], dtype: type[np.generic] = np.int64) -> str:
        name = f"constant.{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.array(value, dtype), name))
        return name

    def weight(self, name: str, tensor: Tensor) -> str:
        """Name a tensor that the session gets apart from the graph, however often it is used."""
        self._weights[name] = tensor
        return name

    def node(self, operator: str, *inputs: str, domain: str = "", **attributes: object) -> str:
        return self.nodes(operator, *inputs, outputs=(0,), domain=domain, **attributes)[0]

    def nodes(
        self,
        operator: str,
        *inputs: str,
        outputs: Sequence[int],
        domain: str = "",
        **attributes: object,
    ) -> list[str]:
        """Add a node; name those of its outputs that are wanted."""
        name = f"{operator}.{len(self._nodes)}"
        wanted = [f"{name}.{index}" for index in outputs]
        every = [f"{name}.{index}" if index in outputs else "" for index in range(outputs[-1] + 1)]
        self._nodes.append(
            helper.make_node(operator, inputs, every, name, None, domain, None, **attributes)
        )
        return wanted

    def split(self, value: str, parts: int, axis: int) -> list[str]:
        return self.nodes("Split", value, outputs=range(parts), axis=axis, num_outputs=parts)

    def product(self, x: str, name: str) -> str:
        """Multiply `[…, K]` with the weight of a linear layer: `[…, N]`."""
        name = f"{name}.weight"
        weight = self._products[name]
        if isinstance(weight, Tensor):
            matrix = self.weight(name, weight)
            return self.node("FusedMatMul", x, matrix, domain=MICROSOFT, transB=1)
        rows, blocks, _ = weight.packed.shape
        return self.node(
            "MatMulNBits",
            x,
            self.weight(name, weight.packed),
            self.weight(f"{name}.scales", weight.scales),
            domain=MICROSOFT,
            N=rows,
            K=blocks * weight.block,
            bits=weight.bits,
            block_size=weight.block,
            accuracy_level=INT8_ACTIVATIONS,
        )

    def rope(self, name: str, config: TransformerConfig, positions: int) -> tuple[str, str]:
        """Name the cosines and sines of a stack's rotary embedding, `[positions, D / 2]` each."""
        angles = rope_angles(config, positions)
        return self.weight(f"{name}.cos", angles.cos()), self.weight(f"{name}.sin", angles.sin())

    def attention(
        self,
        query_key_value: str,
        past: list[str],
        last: str,
        reach: str,
        rope: tuple[str, str],
        config: TransformerConfig,
    ) -> list[str]:
        """Turn, cache and attend; give `[B, T, heads * D]`, all keys and all values."""
        return self.nodes(
            "GroupQueryAttention",
            *(query_key_value, "", "", *past, last, reach, *rope),
            outputs=(0, 1, 2),
            domain=MICROSOFT,
            num_heads=config.heads,
            kv_num_heads=config.kv_heads,
            do_rotary=1,
        )

    def stack(
        self, x: str, name: str, config: TransformerConfig, attend: Callable[[int, str], str]
    ) -> str:
        """Write the layers and the last norm. Each sum is fused with the norm that follows it."""
        layers = [f"{name}.layers.{index}" for index in range(config.layers)]
        after = [*(f"{layer}.attention_norm" for layer in layers[1:]), f"{name}.norm"]
        normed = self.node(
            "SimplifiedLayerNormalization",
            x,
            self._norm(f"{layers[0]}.attention_norm"),
            epsilon=config.norm_eps,
        )
        for index, (layer, next_norm) in enumerate(zip(layers, after, strict=True)):
            seen = attend(index, self.product(normed, f"{layer}.query_key_value"))
            out = self.product(seen, f"{layer}.attention_out")
            normed, x = self._add_and_norm(x, out, f"{layer}.ffn_norm", config)
            gate, up = self.split(self.product(normed, f"{layer}.gate_up"), 2, axis=-1)
            # With this alpha it is the SiLU, in one operator.
            gate = self.node("QuickGelu", gate, domain=MICROSOFT, alpha=1.0)
            down = self.product(self.node("Mul", gate, up), f"{layer}.down")
            normed, x = self._add_and_norm(x, down, next_norm, config)
        return normed

    def _add_and_norm(
        self, x: str, more: str, norm: str, config: TransformerConfig
    ) -> tuple[str, str]:
        """Give the norm of a sum, and the sum."""
        normed, total = self.nodes(
            "SkipSimplifiedLayerNormalization",
            *(x, more, self._norm(norm)),
            outputs=(0, 3),  # 1 and 2 are for training
            domain=MICROSOFT,
            epsilon=config.norm_eps,
        )
        return normed, total

    def _norm(self, name: str) -> str:
        return self.weight(f"{name}.weight", self._tensors[f"{name}.weight"])

    def program(self, name: str) -> Program:
        outside = [_outside(name, tensor) for name, tensor in self._weights.items()]
        graph = helper.make_graph(
            self._nodes, name, self._inputs, self._outputs, [*self._constants, *outside]
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)],
            ir_version=IR_VERSION,
        )
        return Program(
            model.SerializeToString(),
            self._weights,
            tuple(output.name for output in self._outputs),
        )


def _outside(name: str, tensor: Tensor) -> TensorProto:
    """Announce a weight that is nowhere in the file, so that its size has no limit."""
    proto = TensorProto(
        name=name,
        data_type=ELEMENTS[tensor.dtype],
        dims=tensor.shape,
        data_location=TensorProto.EXTERNAL,
    )
    proto.external_data.add(key="location", value="memory")
    return proto
