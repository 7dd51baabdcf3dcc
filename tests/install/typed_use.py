"""What strict mypy makes of a user's code; `make lint` checks it."""

from torch import Tensor, nn
from typing_extensions import assert_type

import vtadl_ext
from vtadl_ext import reference


def losses(x: Tensor, logits: Tensor, mu: Tensor, scale: Tensor) -> Tensor:
    assert_type(vtadl_ext.gmm_nll(x, logits, mu, scale, scale_param="std", reduction="sum"), Tensor)
    assert_type(vtadl_ext.gmm_responsibilities(x, logits, mu, scale), Tensor)
    assert_type(reference.gmm_nll(x, logits, mu, scale), Tensor)
    vtadl_ext.gmm_nll(x, logits, mu, scale, scale_param=3)  # type: ignore[arg-type]
    vtadl_ext.gmm_nll(x, logits, mu, scale, sigma=scale)  # type: ignore[call-arg]
    return vtadl_ext.gmm_nll(x, logits, mu, scale)


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mixture = vtadl_ext.MixtureHead(64, 2, 5)
        self.loss = vtadl_ext.SSIMLoss()

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return self.mixture.nll(x, h)


def similarity(x: Tensor, y: Tensor) -> Tensor:
    loss, terms = vtadl_ext.reconstruction_loss(x, y, mse=1.0, return_terms=True)
    assert_type(vtadl_ext.reconstruction_loss(x, y), Tensor)
    either = vtadl_ext.reconstruction_loss(x, y, return_terms=bool(x.numel()))
    assert_type(either, Tensor | tuple[Tensor, vtadl_ext.ReconstructionTerms])
    assert_type(vtadl_ext.build_info()["cuda"], str | None)
    assert_type(vtadl_ext.ms_ssim(x, y), Tensor)
    return vtadl_ext.ssim(x, y, padding="same") + loss + terms.mse
