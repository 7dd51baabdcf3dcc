"""A short check of an installation: the operators against their references. Prints what was built.

python tests/install/check_operators.py          from any folder but the source tree
"""

import warnings

import torch

import vtadl_ext
from vtadl_ext import reference


def value_and_grads(function, inputs, **options):
    inputs = [tensor.clone().requires_grad_() for tensor in inputs]
    value = function(*inputs, **options)
    return value, *torch.autograd.grad(value, inputs)


def compare(name, inputs, **options):
    """Raises AssertionError where an operator and its reference differ."""
    results = value_and_grads(getattr(vtadl_ext, name), inputs, **options)
    expected = value_and_grads(getattr(reference, name), inputs, **options)
    torch.testing.assert_close(results, expected, rtol=1e-4, atol=1e-6)


def main():
    warnings.simplefilter("error")  # that the reference would run in place of the kernels
    torch.manual_seed(0)
    mixture = torch.randn(64, 8), torch.randn(64, 5), torch.randn(64, 5, 8), 0.1 * torch.randn(64, 5, 8)
    compare("gmm_nll", mixture)
    compare("gmm_nll", mixture, mixture="weighted", scale_param="softplus")
    images = torch.rand(2, 3, 40, 50), torch.rand(2, 3, 40, 50)
    compare("ssim", images)
    compare("ssim", images, window_size=7, padding="same")
    print(f"torch {torch.__version__}, {vtadl_ext.__file__}, {vtadl_ext.build_info()}")


if __name__ == "__main__":
    main()
