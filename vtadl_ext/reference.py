"""The operators in plain PyTorch: the oracle of the tests, and the path of devices without kernels.

Each function is the shortest correct statement of its formula, with the signature of the operator of
the same name; the options are explained there.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def gmm_nll(
    x: Tensor,
    logits: Tensor,
    mu: Tensor,
    scale: Tensor,
    *,
    scale_param: str = "log_std",
    min_std: float = 0.0,
    mixture: str = "logsumexp",
    reduction: str = "mean",
) -> Tensor:
    """Reference of :func:`vtadl_ext.gmm_nll`."""
    x, logits, mu, scale = map(_widen, (x, logits, mu, scale))
    log_std = {
        "log_std": lambda: scale,
        "std": lambda: scale.log(),
        "log_var": lambda: 0.5 * scale,
        "var": lambda: 0.5 * scale.log(),
        "softplus": lambda: F.softplus(scale).log(),
    }[scale_param]()
    if min_std > 0:
        log_std = log_std.clamp(min=math.log(min_std))
    log_std = log_std.expand(torch.broadcast_shapes(log_std.shape, (x.shape[-1],)))
    z = (x.unsqueeze(-2) - mu) * torch.exp(-log_std)
    log_normal = -0.5 * z.square().sum(-1) - log_std.sum(-1) - 0.5 * x.shape[-1] * math.log(2 * math.pi)
    masked = (logits == -math.inf).all(-1, keepdim=True)  # all components of a sample
    logits = logits.masked_fill(masked, 0)
    if mixture == "weighted":
        nll = -(logits.softmax(-1) * log_normal).sum(-1)
    else:
        nll = -torch.logsumexp(logits.log_softmax(-1) + log_normal, -1)
    return _reduce(nll.masked_fill(masked.squeeze(-1), math.inf), reduction)


def ssim(
    x: Tensor,
    y: Tensor,
    *,
    data_range: float = 1.0,
    window: str = "gaussian",
    window_size: int = 11,
    window_sigma: float = 1.5,
    k1: float = 0.01,
    k2: float = 0.03,
    padding: str = "valid",
    reduction: str = "mean",
) -> Tensor:
    """Reference of :func:`vtadl_ext.ssim`."""
    x, y = (pad(_widen(image), window_size, padding) for image in (x, y))
    weights = x.new_tensor(window_weights(window, window_size, window_sigma))

    def blur(image: Tensor) -> Tensor:
        planes = image.reshape(-1, 1, *image.shape[-2:])
        planes = F.conv2d(F.conv2d(planes, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))
        return planes.reshape(*image.shape[:-2], *planes.shape[-2:])

    c1, c2 = (k1 * data_range) ** 2, (k2 * data_range) ** 2
    mean_x, mean_y = blur(x), blur(y)
    variances = (blur(x * x + y * y) - mean_x.square() - mean_y.square()).clamp(min=0)
    covariance = blur(x * y) - mean_x * mean_y
    ssim_map = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    ssim_map = ssim_map / ((mean_x.square() + mean_y.square() + c1) * (variances + c2))
    if reduction == "map":
        return ssim_map
    return ssim_map.mean((-3, -2, -1)) if reduction == "none" else ssim_map.mean()


def window_weights(window: str, size: int, sigma: float) -> list[float]:
    """Weights of a one-dimensional window, computed in double precision, with sum 1."""
    centre = (size - 1) / 2
    distances = [(i - centre) / sigma for i in range(size)]
    # Not distance**2: torch.compile, where sigma varies, cannot take powers of negative numbers.
    weights = [1.0 if window == "uniform" else math.exp(-0.5 * distance * distance) for distance in distances]
    return [weight / math.fsum(weights) for weight in weights]


def pad(image: Tensor, window_size: int, padding: str) -> Tensor:
    """The image with the border that `padding` asks for: none, zeros, or its reflection."""
    if padding == "valid":
        return image
    border = [window_size // 2] * 4
    # Planes, because F.pad reflects no images without channels.
    planes = image.reshape(-1, 1, *image.shape[-2:])
    planes = F.pad(planes, border, mode="constant" if padding == "same" else "reflect")
    return planes.reshape(*image.shape[:-2], *planes.shape[-2:])


def _widen(tensor: Tensor) -> Tensor:
    """At least float32: sums of half-precision numbers in half precision are worthless."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _reduce(values: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return values
    return values.mean() if reduction == "mean" else values.sum()
