"""How the tensors of a checkpoint become the tensors of the modules.

The names are those of the files of `sesame/csm-1b` (there below `codec_model.`) and `kyutai/mimi`.
transformers from 5.23 on has others in memory, and translates when it loads and saves. Most
tensors of the modules are made of others: convolutions become matrices, projections are fused,
scales go into the matrix before them, and codebooks come as sums and counts of their training.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Size, Tensor, nn
from torch.nn import functional

from service.csm.mimi.convolution import CausalConvolution, CausalTransposedConvolution, Depthwise
from service.csm.mimi.quantizer import Quantizer
from service.csm.mimi.transformer import Layer

# An entry that was never used has no mean; upstream divides its sum by this instead of by zero.
FEWEST_USES = 1e-5


@dataclass(frozen=True, slots=True)
class Source:
    """What one tensor of a module is made of.

    Attributes:
        shapes: Name and shape of each tensor of the checkpoint that goes into it.
        fold: Makes the module's tensor of them, in that order.
    """

    shapes: Mapping[str, Size]
    fold: Callable[[list[Tensor]], Tensor]


def sources(codec: nn.Module) -> dict[str, Source]:
    """Return the source of every tensor of a codec, by the names of its `state_dict`."""
    found = {
        name: Source({name: tensor.shape}, lambda tensors: tensors[0])
        for name, tensor in codec.state_dict().items()
    }
    for path, module in codec.named_modules():
        for name, source in _made_of_others(module):
            shapes = {f"{path}.{part}": shape for part, shape in source.shapes.items()}
            found[f"{path}.{name}"] = Source(shapes, source.fold)
    return found


def marks(quantizer: Quantizer) -> dict[str, Size]:
    """Return what a checkpoint holds beside: marks that the training of a codebook has begun."""
    return {f"quantizer.{book}.initialized": Size([1]) for book in _codebooks(quantizer)}


def _made_of_others(module: nn.Module) -> Iterator[tuple[str, Source]]:
    match module:
        case CausalConvolution():
            yield from _convolution(module)
        case CausalTransposedConvolution():
            yield from _transposed_convolution(module)
        case Layer():
            yield from _layer(module)
        case Quantizer():
            yield from _quantizer(module)


def _convolution(module: CausalConvolution) -> Iterator[tuple[str, Source]]:
    shape = Size([module.outputs, module.inputs, module.kernel])
    yield (
        "product.weight",
        Source({"conv.weight": shape}, lambda tensors: tensors[0].transpose(1, 2).flatten(1)),
    )
    if module.product.bias is not None:
        bias = {"conv.bias": Size([module.outputs])}
        yield "product.bias", Source(bias, lambda tensors: tensors[0])


def _transposed_convolution(module: CausalTransposedConvolution) -> Iterator[tuple[str, Source]]:
    kernel = 2 * module.stride
    if isinstance(module.product, Depthwise):
        shape = Size([module.outputs, 1, kernel])
        yield (
            "product.weight",
            Source({"conv.weight": shape}, lambda tensors: tensors[0].squeeze(1).T),
        )
        return
    inputs = module.product.get_parameter("weight").shape[1]
    yield (
        "product.weight",
        Source(
            {"conv.weight": Size([inputs, module.outputs, kernel])},
            lambda tensors: tensors[0].permute(2, 1, 0).flatten(0, 1),
        ),
    )

    def bias_of_own_columns(tensors: list[Tensor]) -> Tensor:
        own = tensors[0].repeat(module.stride)
        return torch.cat((own, torch.zeros_like(own)))

    yield "product.bias", Source({"conv.bias": Size([module.outputs])}, bias_of_own_columns)


def _layer(module: Layer) -> Iterator[tuple[str, Source]]:
    out, inner = module.output.weight.shape
    projection = Size([inner, out])
    yield (
        "qkv.weight",
        Source({f"self_attn.{name}_proj.weight": projection for name in "qkv"}, torch.cat),
    )
    for own, matrix, scale in (
        ("output", "self_attn.o_proj", "self_attn_layer_scale"),
        ("mlp.fc2", "mlp.fc2", "mlp_layer_scale"),
    ):
        shape = module.get_parameter(f"{own}.weight").shape
        yield (
            f"{own}.weight",
            Source(
                {f"{matrix}.weight": shape, f"{scale}.scale": shape[:1]},
                lambda tensors: tensors[0] * tensors[1][:, None],
            ),
        )


def _quantizer(module: Quantizer) -> Iterator[tuple[str, Source]]:
    width, hidden = module.width, module.project_in.in_features
    parts = [f"{part}_residual_vector_quantizer" for part in ("semantic", "acoustic")]
    # Convolutions over one column: matrices with a third dimension of one.
    yield (
        "project_in.weight",
        Source(
            {f"{part}.input_proj.weight": Size([width, hidden, 1]) for part in parts},
            lambda tensors: torch.cat(tensors, dim=0).squeeze(-1),
        ),
    )
    yield (
        "project_out.weight",
        Source(
            {f"{part}.output_proj.weight": Size([hidden, width, 1]) for part in parts},
            lambda tensors: torch.cat(tensors, dim=1).squeeze(-1),
        ),
    )
    books = {}
    for book in _codebooks(module):
        books[f"{book}.embed_sum"] = Size([module.size, width])
        books[f"{book}.cluster_usage"] = Size([module.size])
    yield "entries", Source(books, _entries)


def _codebooks(module: Quantizer) -> Iterator[str]:
    for index in range(module.semantic):
        yield f"semantic_residual_vector_quantizer.layers.{index}.codebook"
    for index in range(len(module.entries) - module.semantic):
        yield f"acoustic_residual_vector_quantizer.layers.{index}.codebook"


def _entries(sums_and_uses: list[Tensor]) -> Tensor:
    sums = torch.stack(sums_and_uses[::2])  # [K, size, width]
    uses = torch.stack(sums_and_uses[1::2])  # [K, size]
    means = sums / uses.clamp(min=FEWEST_USES)[..., None]
    return functional.pad(means, (0, 0, 0, 1))  # [K, size + 1, width]
