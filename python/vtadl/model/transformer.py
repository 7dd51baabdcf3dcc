"""Pre-norm transformer encoder (Dosovitskiy et al., "An Image is Worth 16x16 Words", 2021)."""

import torch.nn.functional as F
from torch import Tensor, nn

from vtadl.common.precision import FullPrecisionModule


class Attention(nn.Module):
    """Multi-head self-attention over tokens [B, N, width]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value)
        return self.projection(attended.transpose(1, 2).flatten(2))


class TransformerBlock(nn.Module):
    """Attention and a two-layer perceptron, each with pre-normalisation and a residual connection."""

    def __init__(self, width: int, heads: int, mlp_width: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(width), Attention(width, heads))
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, mlp_width), nn.GELU(), nn.Linear(mlp_width, width)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attention(tokens)
        return tokens + self.mlp(tokens)


class TransformerEncoder(FullPrecisionModule, nn.Sequential):
    """A stack of blocks; the last normalisation has no gain, so that tokens keep unit scale.

    Predicted mixtures are densities of these tokens. A learned gain would change their likelihood by a mere
    change of scale, and `min_std` would have no meaning.
    """

    def __init__(self, width: int, depth: int, heads: int, mlp_width: int) -> None:
        blocks = [TransformerBlock(width, heads, mlp_width) for _ in range(depth)]
        super().__init__(*blocks, nn.LayerNorm(width, elementwise_affine=False))
