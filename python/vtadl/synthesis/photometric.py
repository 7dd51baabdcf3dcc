"""Photometric anomalies: stains and contamination."""

import numpy as np
import torch
from torch import Tensor

from vtadl.synthesis.regions import smooth_noise
from vtadl.synthesis.site import Site


def stain(site: Site, rng: np.random.Generator) -> Tensor:
    """Changes brightness and hue with a smooth border; the structure below remains visible."""
    hue = torch.from_numpy(rng.standard_normal((len(site.image), 1, 1), dtype=np.float32))
    tint = (rng.choice([-0.4, 0.4]) + 0.15 * hue).to(site.window)
    below = site.window if rng.uniform() < 0.5 else 1.0
    opacity = site.region.opacity(rng.uniform(0.4, 1.0)).to(site.window)
    return site.window + opacity * tint * below


def contamination(site: Site, rng: np.random.Generator) -> Tensor:
    """Covers the image with an opaque blot of another brightness, a colour and a texture of its own."""
    level = site.mean.mean().item()
    level += rng.uniform(0.25, 0.6) * (-1 if rng.uniform() < level else 1)
    hue = torch.from_numpy(rng.standard_normal((len(site.image), 1, 1), dtype=np.float32))
    texture = smooth_noise(site.region.depth.shape, int(rng.integers(3, 17)), rng)
    content = level + 0.1 * (hue - hue.mean()) + rng.uniform(0.01, 0.1) * texture
    return site.blend(content.clamp(0, 1), rng.uniform(0.1, 0.4))
