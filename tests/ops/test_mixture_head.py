"""`MixtureHead`: a module whose mixtures and whose fused likelihood agree."""

import copy
import pickle
import re

import numpy as np
import pytest
import torch
from torch import nn

from vtadl_ext import MixtureHead, gmm_log_prob, gmm_nll, linear_gmm_nll, reference

from .comparison import DTYPES, assert_close, dtype_id
from .mixtures import SCALE_PARAMS

SHAPES = {  # of the scale for K = 3, D = 5
    "diagonal": ({}, (3, 5)),
    "spherical": ({"spherical": True}, (3, 1)),
    "shared": ({"shared_scale": True}, (1, 5)),
    "shared_spherical": ({"shared_scale": True, "spherical": True}, (1, 1)),
}
ALL_SCALES = pytest.mark.parametrize(("kind", "scale"), SHAPES.values(), ids=list(SHAPES))
TOLERANCE = {torch.float64: 1e-11, torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}


def trained(device, dtype=torch.float32, **options):
    """A head whose weight is not that of a new one, samples and features."""
    torch.manual_seed(0)
    head = MixtureHead(7, 5, 3, device=device, dtype=dtype, **options)
    with torch.no_grad():
        head.weight += 0.1 * torch.randn_like(head.weight)
    x, h = torch.randn(20, 5, dtype=torch.float64), torch.randn(20, 7, dtype=torch.float64)
    return head, x.to(device, dtype), h.to(device, dtype)


def gradients(head, x, h, function):
    head.zero_grad()
    h = h.clone().requires_grad_()
    value = function(x, h)
    value.backward()
    return value, [h.grad, *(parameter.grad for parameter in head.parameters())]


@ALL_SCALES
def test_it_predicts_a_mixture_for_each_row(device, kind, scale):
    head = MixtureHead(7, 5, 3, device=device, **kind)
    logits, mu, scale_output = head(torch.randn(2, 4, 7, device=device))
    assert logits.shape == (2, 4, 3)
    assert mu.shape == (2, 4, 3, 5)
    assert scale_output.shape == (2, 4, *scale)
    assert all(parameter.is_contiguous() for parameter in (logits, mu, scale_output))


@pytest.mark.parametrize("mixture", ["logsumexp", "weighted"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
@ALL_SCALES
def test_both_routes_agree(device, kind, scale, dtype, bias, mixture):
    options = {"scale_param": "softplus", "min_std": 0.1, "mixture": mixture}
    head, x, h = trained(device, dtype, bias=bias, **options, **kind)
    value, grads = gradients(head, x, h, head.nll)
    expected, expected_grads = gradients(head, x, h, lambda x, h: gmm_nll(x, *head(h), **options))
    assert_close("value", value, expected, TOLERANCE[dtype], at_least=1.0)
    for grad, wanted in zip(grads, expected_grads, strict=True):
        assert_close("gradient", grad, wanted, TOLERANCE[dtype])


@pytest.mark.parametrize("scale_param", SCALE_PARAMS)
def test_the_log_density_is_that_of_the_mixture_whatever_is_trained(device, scale_param):
    head, x, h = trained(device, scale_param=scale_param, mixture="weighted", min_std=0.2)
    expected = gmm_log_prob(x, *head(h), scale_param=scale_param, min_std=0.2)
    assert_close("log_prob", head.log_prob(x, h), expected, 1e-5)
    assert head.nll(x, h, reduction="none").shape == (20,)
    assert head.nll(x, h) > -head.log_prob(x, h).mean()


def test_its_rows_are_logits_then_means_then_scales(device):
    head = MixtureHead(7, 5, 3, device=device)
    assert head.weight.shape == (3 + 15 + 15, 7)
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(torch.arange(33.0))
    logits, mu, scale = head(torch.zeros(7, device=device))
    assert logits.tolist() == [0, 1, 2]
    assert mu[1].tolist() == [8, 9, 10, 11, 12]
    assert scale[2].tolist() == [28, 29, 30, 31, 32]


@ALL_SCALES
@pytest.mark.parametrize("min_std", [0.0, 0.1, 3.0])
@pytest.mark.parametrize("scale_param", SCALE_PARAMS)
def test_a_new_head_is_a_safe_start(device, scale_param, min_std, kind, scale):
    head = MixtureHead(7, 5, 3, scale_param=scale_param, min_std=min_std, device=device, **kind)
    x, h = torch.randn(200, 5, device=device), 10 * torch.randn(200, 7, device=device)
    logits, mu, _ = head(h)
    assert not logits.any()  # components of the same weight
    assert (mu[:, 0] - mu[:, 1]).abs().mean() > 0.1  # which differ
    noise = head.sample(h) - mu[:, 0]
    expected = max(1.0, 2 * min_std)
    at_mean = head.log_prob(mu[:, 0], h)
    assert noise.isfinite().all()
    one = MixtureHead(7, 5, 1, scale_param=scale_param, min_std=min_std, device=device, **kind)
    std = (one.sample(h) - one(h)[1][:, 0]).std()
    assert abs(std - expected) < 0.1 * expected
    assert at_mean.isfinite().all()
    _, grads = gradients(head, x, h, head.nll)
    assert all(grad.isfinite().all() for grad in grads)
    assert all(grad.any() for grad in head.bias.grad.split([3, 15, len(head.bias) - 18]))  # nothing is stuck


def test_samples_come_from_the_predicted_mixtures(device):
    head = MixtureHead(7, 5, 3, device=device)
    h = torch.randn(2, 4, 7, device=device)
    generator = torch.Generator(device.type).manual_seed(0)
    drawn = head.sample(h, (500,), generator=generator)
    assert drawn.shape == (500, 2, 4, 5)
    assert not drawn.requires_grad
    _, mu, _ = head(h)
    assert_close("mean", drawn.mean(0), mu.mean(-2), 0.2, at_least=6.0)
    again = head.sample(h, (500,), generator=generator.manual_seed(0))
    assert torch.equal(drawn, again)


def test_it_learns_a_conditional_density(device):
    torch.manual_seed(0)
    h = torch.rand(256, 1, device=device)
    x = h.sqrt() * torch.randint(0, 2, h.shape, device=device).mul(2).sub(1)  # two branches
    model = nn.Sequential(nn.Linear(1, 32), nn.Tanh()).to(device)
    head = MixtureHead(32, 1, 4, scale_param="softplus", min_std=0.05, device=device)
    optimizer = torch.optim.Adam([*model.parameters(), *head.parameters()], lr=1e-2)
    losses = []
    for _ in range(60):
        loss = head.nll(x, model(h))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.3


def test_its_text_names_the_options():
    text = (
        "MixtureHead(7, 5, 3, scale_param='var', min_std=0.5, mixture='weighted', shared_scale=True, "
        "spherical=True, bias=True, memory_budget=1024)"
    )
    options = {"scale_param": "var", "min_std": 0.5, "mixture": "weighted", "memory_budget": 1024}
    assert repr(MixtureHead(7, 5, 3, shared_scale=True, spherical=True, **options)) == text
    assert repr(MixtureHead(7, 5, 3, bias=False)).endswith("spherical=False, bias=False)")


def test_it_can_be_copied_and_its_state_loaded(device):
    head, x, h = trained(device)
    other = MixtureHead(7, 5, 3, device=device)
    other.load_state_dict(head.state_dict())
    for again in (copy.deepcopy(head), pickle.loads(pickle.dumps(head)), other):
        assert torch.equal(again.nll(x, h), head.nll(x, h))


def test_its_parameters_have_the_device_and_dtype_asked_for():
    head = MixtureHead(7, 5, 3, device="meta", dtype=torch.float64)
    assert {(p.device.type, p.dtype) for p in head.parameters()} == {("meta", torch.float64)}
    assert (
        head.double()
        .nll(torch.empty(4, 5).double().to("meta"), torch.empty(4, 7).double().to("meta"))
        .is_meta
    )


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"in_features": 0}, ValueError, "in_features must be at least 1, got 0"),
        ({"out_features": 1.5}, TypeError, "out_features must be an integer, got 1.5"),
        ({"num_components": -1}, ValueError, "num_components must be at least 1, got -1"),
        ({"scale_param": "exp"}, ValueError, "scale_param must be 'log_std', 'std'"),
        ({"min_std": -0.1}, ValueError, "min_std must be finite and at least 0, got -0.1"),
        ({"mixture": "sum"}, ValueError, "mixture must be 'logsumexp' or 'weighted', got 'sum'"),
        ({"shared_scale": "all"}, TypeError, "shared_scale must be True or False, got 'all'"),
        ({"spherical": None}, TypeError, "spherical must be True or False, got None"),
        ({"bias": 1}, TypeError, "bias must be True or False, got 1"),
        ({"memory_budget": -5}, ValueError, "memory_budget must be at least 1, got -5"),
        ({"bias": False, "scale_param": "std"}, ValueError, "bias must be True with scale_param 'std'"),
    ],
    ids=str,
)
def test_options_that_do_not_fit_are_refused(options, error, message):
    sizes = {"in_features": 7, "out_features": 5, "num_components": 3}
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        MixtureHead(**sizes | options)


@pytest.mark.parametrize("scale_param", SCALE_PARAMS)
def test_without_a_bias_a_scale_of_0_must_have_a_standard_deviation(scale_param):
    zero = torch.zeros(1, 1)
    nll = reference.gmm_nll(torch.ones(1), zero[0], zero, zero, scale_param=scale_param)
    if nll.isfinite():
        head = MixtureHead(7, 5, 3, scale_param=scale_param, bias=False)
        assert head.nll(torch.randn(2, 5), torch.randn(2, 7)).isfinite()
    else:
        message = f"^bias must be True with scale_param '{scale_param}'"
        with pytest.raises(ValueError, match=message), torch.device("meta"):
            MixtureHead(7, 5, 3, scale_param=scale_param, bias=False)


def test_inputs_of_another_width_are_refused_by_name(device):
    head = MixtureHead(7, 5, 4, device=device)
    x, h = torch.randn(3, 5, device=device), torch.randn(3, 7, device=device)
    for call in (head, head.sample, lambda h: head.nll(x, h), lambda h: head.log_prob(x, h)):
        with pytest.raises(
            ValueError, match=r"h must have shape \[\*, 7\], with in_features = 7, got \[3, 6\]"
        ):
            call(h[:, :6])
    with pytest.raises(ValueError, match=r"x must have shape \[\*, 5\], with out_features = 5, got \[3, 4\]"):
        head.nll(x[:, :4], h)


def test_sizes_of_numpy_are_sizes(device):
    sizes = [np.int64(size) for size in (7, 5, 4)]
    head = MixtureHead(*sizes, device=device)
    x, h = torch.randn(3, 5, device=device), torch.randn(3, 7, device=device)
    value = linear_gmm_nll(
        x, h, head.weight, head.bias, num_components=np.int64(4), memory_budget=np.int64(1000)
    )
    torch.testing.assert_close(value, head.nll(x, h))
