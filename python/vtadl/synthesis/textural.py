"""Textural anomalies: another texture, a blurred part, a noisy part."""

import numpy as np
import torch
from torch import Tensor

from vtadl.images.smoothing import smooth
from vtadl.synthesis.regions import log_uniform
from vtadl.synthesis.site import Site
from vtadl.synthesis.structural import random_crop


def other_texture(site: Site, rng: np.random.Generator) -> Tensor:
    """Shows a procedural texture."""
    texture = site.textures[int(rng.integers(len(site.textures)))]
    return site.blend(random_crop(texture, site.region.depth.shape, rng), rng.uniform(0.1, 0.5))


def blurred(site: Site, rng: np.random.Generator) -> Tensor:
    """Blurs a part as if it were out of focus or smeared."""
    sigma = log_uniform(1.0, 4.0, rng) * max(1.0, min(site.image.shape[-2:]) / 256)
    return site.blend(smooth(site.window.float(), sigma), 0.3)


def noisy(site: Site, rng: np.random.Generator) -> Tensor:
    """Adds noise of a random grain."""
    noise = torch.from_numpy(rng.standard_normal(site.region.depth.shape, dtype=np.float32))
    noise = smooth(noise, rng.uniform(0, 1.5) * max(1.0, min(site.image.shape[-2:]) / 256))
    noise = 0.2 * noise / noise.std(correction=0).clamp(min=1e-6)
    return site.window + (site.region.opacity(0.3).cpu() * noise).to(site.window)
