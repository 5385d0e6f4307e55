"""The split residual quantizer: latents to codes, and back.

The first codebooks are semantic and the rest acoustic. Each part projects the latents to the width
of a codebook and describes them by a sum: every codebook takes the entry nearest to what those
before it left over (van den Oord et al., 2017, arXiv:1711.00937; Zeghidour et al., 2021,
arXiv:2107.03312; the split: arXiv:2410.00037, section 3.3.3).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from service.csm.mimi.config import CodecConfig


class Quantizer(nn.Module):
    """All codebooks of a codec.

    Attributes:
        entries: `[K, codebook_size + 1, width]`. The last entry of each codebook is zero: CSM has a
            few codes that Mimi has not, and they add nothing.
        project_in: Weights of both parts one above the other, semantic first.
        project_out: Weights of both parts side by side, semantic first.
    """

    entries: Tensor
    first_entry: Tensor

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        books, self.size, self.width = (
            config.num_quantizers,
            config.codebook_size,
            config.codebook_dim,
        )
        self.semantic = config.num_semantic_quantizers
        self.register_buffer("entries", torch.zeros(books, self.size + 1, self.width))
        self.register_buffer(
            "first_entry", torch.arange(books)[:, None] * (self.size + 1), persistent=False
        )
        self.project_in = nn.Linear(config.hidden_size, 2 * self.width, bias=False)
        self.project_out = nn.Linear(2 * self.width, config.hidden_size, bias=False)

    def encode(self, latents: Tensor) -> Tensor:
        """Describe latents by codes.

        Args:
            latents: `[B, T, D]`.

        Returns:
            `[B, K, T]` int64, from 0 to `codebook_size - 1`.
        """
        semantic, acoustic = self.project_in(latents).float().split(self.width, dim=-1)
        codes = self._nearest(semantic, self.entries[: self.semantic, : self.size])
        codes += self._nearest(acoustic, self.entries[self.semantic :, : self.size])
        return torch.stack(codes, dim=1)

    def decode(self, codes: Tensor) -> Tensor:
        """Return the latents that codes describe.

        Args:
            codes: `[B, K, T]` int64, from 0 on; codes from `codebook_size` on add nothing.

        Returns:
            `[B, T, D]`.
        """
        rows = codes.clamp(max=self.size) + self.first_entry
        found = functional.embedding(rows, self.entries.flatten(0, 1))  # [B, K, T, width]
        semantic = found[:, : self.semantic].sum(dim=1)
        acoustic = found[:, self.semantic :].sum(dim=1)
        y: Tensor = self.project_out(torch.cat((semantic, acoustic), dim=-1))
        return y

    @staticmethod
    def _nearest(rest: Tensor, books: Tensor) -> list[Tensor]:
        codes = []
        for book in books.float():
            # |r - e|^2 = |r|^2 - 2 (r e - |e|^2 / 2), and |r|^2 is the same for every entry.
            closeness = rest @ book.T - book.square().sum(dim=-1) / 2  # [B, T, codebook_size]
            codes.append(closeness.argmax(dim=-1))
            rest = rest - functional.embedding(codes[-1], book)
        return codes
