"""Softmax over the components of a mixture, of which any or all may be masked by -inf."""

import math

import torch
from torch import Tensor

from vtadl_ext._binary import accumulate_dtype


def mixture_log_probs(logits: Tensor) -> Tensor:
    """log π_k, ``[*, K]``. Where all components are masked it is the same for all, and log N_k is -inf."""
    logits = logits.to(accumulate_dtype(logits.dtype))
    all_masked = logits.amax(-1, keepdim=True) == -math.inf
    return logits.masked_fill(all_masked, 0).log_softmax(-1)


def responsibilities(joint_log_prob: Tensor) -> Tensor:
    """Posterior probabilities from log π_k + log N_k, ``[*, K]``.

    All are 0 where every component is impossible. Infinite densities share all of the probability.
    """
    impossible = joint_log_prob.amax(-1, keepdim=True) == -math.inf
    largest = torch.finfo(joint_log_prob.dtype).max
    finite = joint_log_prob.masked_fill(impossible, 0).masked_fill(joint_log_prob == math.inf, largest)
    return finite.softmax(-1).masked_fill(impossible, 0)
