"""Features that are computed once, and kept in memory or, if they are many, in a temporary file."""

import mmap
import os
import tempfile
from collections.abc import Sequence

import torch
from torch import Tensor

from vtadl.common.progress import progress
from vtadl.features.extractor import FeatureExtractor

_BATCH = 8  # images whose features are computed at once


@torch.no_grad()
def compute_features(
    extractor: FeatureExtractor,
    images: Tensor,
    dtype: torch.dtype = torch.float32,
    limit_gb: float = 4.0,
    doing: str = "computing features",
) -> Tensor:
    """Computes the features [N, P, F] of images [N, C, H, W], once for all uses.

    Args:
        extractor: The features.
        images: One image or more.
        dtype: Type of the result; float16 takes half the memory and keeps three digits.
        limit_gb: Gigabytes above which the result lies in a temporary file and not in memory.
        doing: What the progress bar says.

    Returns:
        The features, on the CPU.

    Raises:
        OSError: If the disk is full.
    """
    features = extractor(images[:_BATCH]).to("cpu", dtype)
    if len(images) <= _BATCH:
        return features
    first, features = features, empty((len(images), *features.shape[1:]), dtype, limit_gb)
    features[:_BATCH] = first
    for start in progress(range(_BATCH, len(images), _BATCH), doing):
        features[start : start + _BATCH] = extractor(images[start : start + _BATCH])
    return features


def empty(shape: Sequence[int], dtype: torch.dtype, limit_gb: float) -> Tensor:
    """A tensor without values: in memory up to a limit, and in a temporary file above it.

    The file is mapped into memory. It has no name, and disappears with the tensor or with the process.

    Raises:
        OSError: If the disk is full.
    """
    size = torch.Size(shape).numel() * dtype.itemsize
    if size <= limit_gb * 1e9:
        return torch.empty(shape, dtype=dtype)
    with tempfile.TemporaryFile() as file:
        if hasattr(os, "posix_fallocate"):  # a full disk is found now, and not while values are written
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
        return torch.frombuffer(mmap.mmap(file.fileno(), size), dtype=dtype).view(shape)
