"""Arguments that hold several numbers, or one, in any of the forms that users have them in."""

import array
from collections import deque

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vtadl_ext
from vtadl_ext import gmm_sample, ms_ssim, reconstruction_loss, ssim

from .images import random_images

few = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
# float16 represents these numbers too.
SEQUENCES = {
    "list": list,
    "tuple": tuple,
    "deque": deque,
    "generator": lambda values: (value for value in values),
    "array.array": lambda values: array.array("d", values),
    "float16": lambda values: np.array(values, np.float16),
    "float64": lambda values: np.array(values, np.float64),
    "list of numpy's": lambda values: [np.float32(value) for value in values],
    "list of arrays": lambda values: [np.array(value) for value in values],
    "tensor": torch.tensor,
    "bfloat16 tensor": lambda values: torch.tensor(values, dtype=torch.bfloat16),
    "parameter": lambda values: torch.nn.Parameter(torch.tensor(values)),
    "list of tensors": lambda values: [torch.tensor(value) for value in values],
}
SHAPES = {
    "list": list,
    "torch.Size": torch.Size,
    "array": np.array,
    "list of numpy's": lambda sizes: [np.int32(size) for size in sizes],
    "tuple of tensors": lambda sizes: tuple(map(torch.tensor, sizes)),
    "array.array": lambda sizes: array.array("i", sizes),
}
NUMBERS = {"numpy's": np.float64, "float32": np.float32, "float16": np.float16}
INTEGERS = {"numpy's": np.int64, "uint8": np.uint8, "int16": np.int16}


@few
@given(
    weights=st.lists(st.sampled_from([0.125, 0.25, 0.5, 1.0, 2.0]), min_size=1, max_size=3),
    form=st.sampled_from(sorted(SEQUENCES)),
)
def test_weights_come_in_any_sequence(device, weights, form):
    images = random_images(1, 2, 20, 20, device=device)
    expected = ms_ssim(**images, weights=weights, window_size=5)
    assert torch.equal(ms_ssim(**images, weights=SEQUENCES[form](weights), window_size=5), expected)
    with vtadl_ext.use_reference():
        value = ms_ssim(**images, weights=SEQUENCES[form](weights), window_size=5)
    torch.testing.assert_close(value, expected)


@few
@given(sizes=st.lists(st.integers(0, 3), min_size=1, max_size=3), form=st.sampled_from(sorted(SHAPES)))
def test_sample_shapes_come_in_any_sequence(sizes, form):
    zeros = torch.zeros(2, 1)
    assert gmm_sample(zeros[:, 0], zeros, zeros, sample_shape=SHAPES[form](sizes)).shape == (*sizes, 1)


@few
@given(number=st.sampled_from(sorted(NUMBERS)), integer=st.sampled_from(sorted(INTEGERS)))
def test_numbers_of_numpy_are_numbers(device, number, integer):
    images = random_images(1, 2, 20, 20, device=device)
    plain = {"data_range": 2.0, "window_sigma": 1.25, "k1": 0.0625, "k2": 0.125, "window_size": 5}
    options = {name: NUMBERS[number](value) for name, value in plain.items() if name != "window_size"}
    options["window_size"] = INTEGERS[integer](5)
    for function in (ssim, ms_ssim, reconstruction_loss):
        several = {"weights": (0.5, 0.5)} if function is ms_ssim else {}
        assert torch.equal(function(**images, **options, **several), function(**images, **plain, **several))


@pytest.mark.parametrize(
    "weights", [1.0, "12", b"12", {0.5: 1}, {0.5, 1.0}, torch.tensor(0.5), np.array(0.5)], ids=repr
)
def test_what_is_no_sequence_of_weights_is_refused(weights):
    image = torch.rand(1, 20, 20)
    with pytest.raises(TypeError, match=r"^weights must be a sequence of numbers, got "):
        ms_ssim(image, image, weights=weights, window_size=5)


@pytest.mark.parametrize("weights", [[[0.5, 0.5]], np.ones((1, 2)), torch.ones(1, 2)], ids=repr)
def test_weights_of_two_dimensions_are_refused(weights):
    image = torch.rand(1, 20, 20)
    with pytest.raises(TypeError, match=r"^weights\[0\] must be a number, got "):
        ms_ssim(image, image, weights=weights, window_size=5)
