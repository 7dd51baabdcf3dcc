"""The noise of images, estimated from the images themselves."""

from torch import Tensor

_SMALLER_HALF_MEAN = 0.3246  # mean of the smaller half of the absolute values of a standard normal variable
_MAX_COEFFICIENTS = 2**16  # of an image; more are subsampled


def estimate_noise(images: Tensor) -> Tensor:
    """Estimates the standard deviation [N] of white noise in the grey levels of images [N, C, H, W].

    It compares the smaller half of the diagonal Haar coefficients with that of a normal variable, as Donoho
    and Johnstone do with the median ("Ideal spatial adaptation by wavelet shrinkage", 1994); a mean is less
    coarse than a median where grey levels are rounded. Edges hardly change it. Fine textures do: for these,
    the estimate is an upper bound. An image that is mostly constant has no noise.
    """
    grey = images.float().mean(1)
    if min(grey.shape[-2:]) < 2:
        return grey.new_zeros(len(grey))
    diagonal = grey.diff(dim=-1).diff(dim=-2).flatten(1).abs() / 2
    sample = diagonal[:, :: -(-diagonal.shape[1] // _MAX_COEFFICIENTS)]
    return sample.sort(dim=1).values[:, : -(-sample.shape[1] // 2)].mean(1) / _SMALLER_HALF_MEAN
