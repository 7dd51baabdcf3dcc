"""Programs that are exported from the functions, and hold none of their operators."""

import pytest
import torch
from torch import nn

import vtadl_ext
from vtadl_ext import reference

from .mixtures import per_sample


class Both(nn.Module):
    def forward(self, x, logits, mu, scale):
        log_prob = vtadl_ext.gmm_log_prob(x, logits, mu, scale, min_std=0.1)
        image = x.sigmoid().reshape(1, 1, *x.shape)
        return log_prob, vtadl_ext.ssim(image, 1 - image, padding="reflect", reduction="map")


@pytest.fixture
def inputs():
    return tuple(per_sample(12, 3, 16).values())


def test_within_the_block_the_functions_are_the_reference(inputs):
    x, logits, mu, scale = inputs
    with vtadl_ext.use_reference():
        inside = vtadl_ext.gmm_nll(x, logits, mu, scale, reduction="none")
    assert torch.equal(inside, reference.gmm_nll(x, logits, mu, scale, reduction="none"))


def test_after_the_block_the_kernels_are_back_even_after_an_error(inputs):
    def program():
        return str(torch.export.export(Both(), inputs, strict=False).graph)

    def fail_inside():
        with vtadl_ext.use_reference(), vtadl_ext.use_reference():
            assert "vtadl_ext" not in program()
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail_inside()
    assert "vtadl_ext" in program()


def test_onnx_export_needs_no_block(inputs, tmp_path):
    import onnxruntime

    torch.onnx.export(Both(), inputs, tmp_path / "both.onnx", dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "both.onnx", providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    outputs = session.run(None, {name: x.numpy() for name, x in zip(names, inputs, strict=True)})
    for output, expected in zip(outputs, Both()(*inputs), strict=True):
        torch.testing.assert_close(torch.tensor(output), expected, rtol=1e-4, atol=1e-4)
