"""Samples of weight 0, or without an upstream gradient, change nothing, whatever they hold."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vtadl_ext import GMMNLLLoss, MixtureHead, gmm_nll, linear_gmm_nll, reference

from .comparison import assert_close
from .heads import random_head
from .mixtures import per_sample, per_sample_tril, random_mixture
from .regimes import REGIMES, SIZES, modest

JUNK = [math.nan, math.inf, -math.inf, 1e30]
FUNCTIONS = pytest.mark.parametrize("function", [gmm_nll, reference.gmm_nll], ids=["kernels", "reference"])
LINEAR = pytest.mark.parametrize(
    "function", [linear_gmm_nll, reference.linear_gmm_nll], ids=["kernels", "reference"]
)


@st.composite
def mixtures_with_junk(draw):
    """Mixtures, the same with junk in what belongs to some samples alone, and which samples count."""
    n, k, d = draw(st.sampled_from(SIZES))
    seed = draw(st.integers(0, 2**16))
    if draw(st.integers(0, 4)) == 0:
        inputs = per_sample_tril(n, k, min(d, 8), seed=seed)
    else:
        inputs = random_mixture(*REGIMES[draw(st.sampled_from(sorted(REGIMES)))](n, k, d), seed=seed)
    samples = inputs["x"].shape[:-1]
    generator = torch.Generator().manual_seed(seed)
    counted = torch.rand(samples, generator=generator) < draw(st.sampled_from([0.0, 0.5, 0.9]))
    junk = draw(st.sampled_from(JUNK))
    own = [name for name, tensor in inputs.items() if tensor.shape[: len(samples)] == samples]
    spoiled = draw(st.lists(st.sampled_from(own), min_size=1, unique=True))
    broken = {
        name: torch.where(counted.reshape(*samples, *[1] * (tensor.dim() - len(samples))), tensor, junk)
        if name in spoiled
        else tensor
        for name, tensor in inputs.items()
    }
    return inputs, broken, counted


def value_and_grads(function, inputs, upstream=None, **options):
    leaves = {name: tensor.detach().clone().requires_grad_() for name, tensor in inputs.items()}
    value = function(**leaves, **options)
    grads = torch.autograd.grad(value, list(leaves.values()), upstream)
    return value.detach(), dict(zip(leaves, grads, strict=True))


def assert_equal(results, expected):
    (value, grads), (expected_value, expected_grads) = results, expected
    assert torch.equal(value, expected_value)
    for name, grad in grads.items():
        assert torch.equal(grad, expected_grads[name]), name


@FUNCTIONS
@modest
@given(
    mixture=mixtures_with_junk(),
    kind=st.sampled_from(["logsumexp", "weighted"]),
    reduction=st.sampled_from(["mean", "sum"]),
    is_mask=st.booleans(),
)
def test_a_sample_of_weight_0_changes_nothing(device, function, mixture, kind, reduction, is_mask):
    inputs, broken, counted = mixture
    weight = counted if is_mask else counted * torch.linspace(0.5, 2, counted.numel()).reshape(counted.shape)
    results = [
        value_and_grads(
            function,
            {name: tensor.to(device) for name, tensor in some.items()},
            mixture=kind,
            sample_weight=weight.to(device),
            reduction=reduction,
        )
        for some in (broken, inputs)
    ]
    if not counted.any() and reduction == "mean":
        assert all(value.isnan() for value, _ in results)
        results = [(torch.zeros(()), grads) for _, grads in results]
    assert all(grad.isfinite().all() for grad in results[0][1].values())
    assert_equal(*results)


@modest
@given(mixture=mixtures_with_junk(), kind=st.sampled_from(["logsumexp", "weighted"]))
def test_no_upstream_gradient_is_no_gradient(device, mixture, kind):
    inputs, broken, counted = mixture
    results = [
        value_and_grads(
            gmm_nll,
            {name: tensor.to(device) for name, tensor in some.items()},
            counted.float().to(device),
            mixture=kind,
            reduction="none",
        )
        for some in (broken, inputs)
    ]
    assert torch.equal(results[0][0][counted], results[1][0][counted])
    assert_equal((torch.zeros(()), results[0][1]), (torch.zeros(()), results[1][1]))


def test_samples_without_a_value_can_be_left_out_afterwards(device):
    inputs = per_sample(10, 4, 3, device=device)
    inputs["x"][3], inputs["mu"][5, 1], inputs["scale"][7] = math.nan, math.nan, math.nan
    left = {name: tensor.detach().requires_grad_() for name, tensor in inputs.items()}
    nll = gmm_nll(**left, reduction="none")
    assert nll.isnan().sum() == 3
    nll[~nll.isnan()].mean().backward()
    assert all(tensor.grad.isfinite().all() for tensor in left.values())


@FUNCTIONS
def test_weights_weigh(device, function):
    inputs = per_sample(6, 3, 4, device=device)
    weight = torch.tensor([0.5, 0.0, 2.0, 1.0, 0.0, 0.25], device=device)
    nll = function(**inputs, reduction="none")
    options = {"sample_weight": weight}
    assert torch.equal(function(**inputs, **options, reduction="none"), weight * nll)
    assert_close("sum", function(**inputs, **options, reduction="sum"), (weight * nll).sum(), 1e-6)
    assert_close("mean", function(**inputs, **options), (weight * nll).sum() / weight.sum(), 1e-6)
    mask = weight > 0
    assert_close("mean", function(**inputs, sample_weight=mask), nll[mask].mean(), 1e-6)
    assert GMMNLLLoss()(**inputs, sample_weight=mask) == gmm_nll(**inputs, sample_weight=mask)


@FUNCTIONS
def test_weights_broadcast_to_the_samples(device, function):
    inputs = random_mixture((2, 6, 3), (4,), (4, 3), (4, 3), device=device)
    weight = torch.tensor([[1.0], [3.0]], device=device)
    nll = function(**inputs, reduction="none")
    assert_close(
        "mean", function(**inputs, sample_weight=weight), (nll.mean(1) * weight[:, 0] / 4).sum(), 1e-6
    )
    assert_close("mean", function(**inputs, sample_weight=weight[0]), nll.mean(), 1e-6)


@FUNCTIONS
def test_weights_have_gradients(device, function):
    inputs = per_sample(4, 3, 5, device=device)
    inputs["x"][1] = math.nan
    weight = torch.tensor([0.5, 0.0, 2.0, 0.0], device=device, requires_grad=True)
    nll = function(**inputs, reduction="none")
    function(**inputs, sample_weight=weight, reduction="sum").backward()
    assert_close("gradient", weight.grad, nll.nan_to_num(0), 1e-6)


@FUNCTIONS
def test_the_mean_of_no_samples_is_nan_without_gradients(device, function):
    value, grads = value_and_grads(
        function, per_sample(4, 3, 5, device=device), sample_weight=torch.zeros(4, device=device)
    )
    assert value.isnan()
    assert all(torch.equal(grad, torch.zeros_like(grad)) for grad in grads.values())


@LINEAR
@pytest.mark.parametrize("name", ["x", "h"])
@pytest.mark.parametrize("junk", JUNK)
def test_a_row_left_out_of_a_linear_head_changes_nothing(device, function, name, junk):
    tensors, options = random_head(12, 3, 5, device=device)
    if function is linear_gmm_nll:
        options["memory_budget"] = 500  # a few rows at a time
    counted = torch.arange(12, device=device) % 3 > 0
    broken = tensors | {name: torch.where(counted.unsqueeze(-1), tensors[name], junk)}
    cases = [({"sample_weight": counted}, None), ({"sample_weight": 2.0 * counted, "reduction": "sum"}, None)]
    if function is linear_gmm_nll:  # PyTorch's own 0 times NaN is NaN
        cases.append(({"reduction": "none"}, counted.float()))
    for more, upstream in cases:
        results, expected = (
            value_and_grads(function, some, upstream, **options, **more) for some in (broken, tensors)
        )
        if more.get("reduction") == "none":
            assert torch.equal(results[0][counted], expected[0][counted])
            results, expected = (counted, results[1]), (counted, expected[1])
        assert_equal(results, expected)


@LINEAR
@pytest.mark.parametrize("reduction", ["sum", "none"])
@pytest.mark.parametrize("name", ["x", "h"])
def test_nan_in_a_row_that_counts_shows(device, function, name, reduction):
    tensors, options = random_head(6, 3, 5, device=device)
    tensors[name][2, 1] = math.nan
    upstream = torch.ones(6, device=device) if reduction == "none" else None
    value, grads = value_and_grads(function, tensors, upstream, **options, reduction=reduction)
    assert value.isnan().any()
    assert grads["weight"].isnan().any()
    assert grads["bias"].isnan().any()


def test_a_head_takes_weights(device):
    head = MixtureHead(7, 5, 3, device=device)
    x, h = torch.randn(6, 5, device=device), torch.randn(6, 7, device=device)
    weight = torch.tensor([1.0, 0.0, 2.0, 1.0, 0.0, 0.5], device=device)
    h[1], x[4] = math.nan, math.inf
    nll = head.nll(x, h, reduction="none")
    expected = (weight * nll)[weight > 0].sum() / weight.sum()
    loss = head.nll(x, h, sample_weight=weight)
    loss.backward()
    assert_close("mean", loss, expected, 1e-6)
    assert head.weight.grad.isfinite().all()


@pytest.mark.parametrize(
    ("weight", "error", "message"),
    [
        ([1.0, 2.0, 3.0], TypeError, "sample_weight must be a torch.Tensor or None, got list"),
        (
            torch.ones(3, dtype=torch.int64),
            TypeError,
            "sample_weight must have dtype torch.bool, torch.float32",
        ),
        (torch.ones(3).to_sparse(), TypeError, "sample_weight must be a dense tensor, got layout"),
        (
            torch.ones(4),
            ValueError,
            r"sample_weight must broadcast to the shape of the samples, \[3\], got shape",
        ),
        (torch.ones(2, 3), ValueError, "sample_weight must broadcast to the shape of the samples"),
        (torch.ones(3, device="meta"), ValueError, "sample_weight must be on the device of x"),
    ],
    ids=["list", "integers", "sparse", "too many", "too many dimensions", "device"],
)
def test_weights_that_do_not_fit_are_refused(weight, error, message):
    with pytest.raises(error, match=f"^{message}"):
        gmm_nll(**per_sample(3, 2, 4), sample_weight=weight)
    head = MixtureHead(7, 5, 3)
    with pytest.raises(error, match=f"^{message}"):
        head.nll(torch.randn(3, 5), torch.randn(3, 7), sample_weight=weight)
