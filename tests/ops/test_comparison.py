"""The comparisons that other tests rely on: they notice small errors."""

import pytest
import torch

from vtadl_ext import gmm_nll, reference, ssim

from .comparison import assert_close, check_against_reference
from .images import random_images
from .mixtures import shared

# How a wrong operator changes a right value.
MISTAKES = {
    "value": lambda value: 1.0001 * value,
    "gradient of": lambda value: value.detach() + 1.001 * (value - value.detach()),
}


@pytest.mark.parametrize(("message", "mistake"), MISTAKES.items(), ids=["value", "gradient"])
@pytest.mark.parametrize(
    ("operator", "oracle", "tensors"),
    [(gmm_nll, reference.gmm_nll, shared(5, 4, 3)), (ssim, reference.ssim, random_images(2, 12, 13))],
    ids=["gmm_nll", "ssim"],
)
def test_a_wrong_operator_is_noticed(operator, oracle, tensors, message, mistake):
    check_against_reference(operator, oracle, tensors, value_tolerance=4e-6, grad_tolerance=1e-5)
    with pytest.raises(AssertionError, match=message):
        check_against_reference(lambda *tensors: mistake(operator(*tensors)), oracle, tensors)


def test_a_failure_shows_the_worst_elements():
    expected = torch.arange(100.0)
    actual = expected.clone()
    actual[42] += 1
    with pytest.raises(
        AssertionError, match=r"values: error 1, .* by flat index:\n  \[42\] 43, expected 42\n"
    ):
        assert_close("values", actual, expected, 1e-6)


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, -torch.inf], ids=str)
def test_numbers_are_not_close_to_what_is_no_number(wrong):
    for actual, expected in [(wrong, 1.0), (1.0, wrong)]:
        with pytest.raises(AssertionError, match="error inf"):
            assert_close("value", torch.tensor([actual]), torch.tensor([expected]), 1.0)
    assert_close("value", torch.tensor([wrong]), torch.tensor([wrong]), 0.0)


def test_zeros_are_not_close_to_small_numbers():
    with pytest.raises(AssertionError):
        assert_close("gradient", torch.zeros(3), torch.full((3,), 1e-20), 1e-5)
