"""`gmm_nll` where standard deviations are too small to invert, in every regime of the kernels."""

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vtadl_ext import gmm_nll, gmm_responsibilities, reference

from .comparison import DTYPES
from .mixtures import SCALE_PARAMS, by_position, random_mixture, raw_scale
from .regimes import REGIMES, SIZES, modest


def edges(scale_param: str, dtype: torch.dtype) -> list[float]:
    """Values of `scale` near the overflow of 1 / std or of the slope of the logarithm."""
    info = torch.finfo(dtype)
    if scale_param in ("std", "var"):
        small = [info.smallest_normal * 2.0**power for power in (-24, -23, -8, -1, 0, 1, 10)]
        return [0.0, -0.0, *small, info.max]
    if scale_param == "precision":
        return [math.inf, *(info.max * 2.0**power for power in (-10, -1, 0)), info.smallest_normal, 0.0]
    widest = torch.finfo(torch.promote_types(dtype, torch.float32))
    lowest = math.log(widest.smallest_normal) * (2 if scale_param == "log_var" else 1)
    return [
        -math.inf,
        4 * lowest,
        *(lowest + by for by in (-20, -8, -1.4, -1, -0.5, 0, 0.5, 1)),
        -50.0,
        -49.9,
        0.0,
    ]


@st.composite
def collapsed_mixtures(draw):
    """Mixtures of which one component has collapsed, often onto a sample; and their options."""
    scale_param, dtype = draw(st.sampled_from(SCALE_PARAMS)), draw(st.sampled_from(DTYPES))
    size = draw(st.sampled_from(SIZES))
    inputs = random_mixture(
        *REGIMES[draw(st.sampled_from(sorted(REGIMES)))](*size),
        scale_param=scale_param,
        dtype=dtype,
        seed=draw(st.integers(0, 2**16)),
    )
    some = slice(None) if draw(st.booleans()) else slice(0, 1)  # of its features
    inputs["scale"][..., -1, some] = draw(st.sampled_from(edges(scale_param, dtype)))
    if draw(st.booleans()):
        inputs["mu"][..., -1, :] = 0.5
        inputs["x"][..., : draw(st.sampled_from([1, 2])), :] = 0.5
    options = {
        "scale_param": scale_param,
        "min_std": draw(st.sampled_from([0.0, 0.0, 1e-42, 1e-30, 1e-3])),
    }
    return inputs, options


def kind(tensor):
    """0 for numbers, 1 and -1 for infinities, 2 for NaN."""
    tensor = tensor.detach().cpu()
    return torch.where(tensor.isnan(), 2, tensor.isinf() * tensor.sign().nan_to_num()).int()


def check_kinds(inputs, **options):
    """Values and gradients are what those of the float64 reference are once rounded."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in inputs.values()]
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs.values()]
    value = by_position(gmm_nll, list(inputs))(*leaves, reduction="none", **options)
    expected = by_position(reference.gmm_nll, list(inputs))(*exact, reduction="none", **options)
    # Where the sum is barely a number, a square or a component may be none; +inf and -inf together are none.
    largest = torch.finfo(value.dtype).max
    assume(not ((expected.abs() > largest / 1e4) & (expected.abs() < 1e4 * largest)).any())
    assume(not expected.isnan().any())
    rounded = expected.to(value.dtype)
    assert torch.equal(kind(value), kind(rounded))
    finite = rounded.isfinite()
    torch.testing.assert_close(value[finite].double(), expected[finite], rtol=1e-4, atol=1e-4)
    # Infinite values have no slope.
    found = torch.autograd.grad(value.sum(), leaves)
    wanted = torch.autograd.grad(expected, exact, finite.to(expected))
    for name, grad, want in zip(inputs, found, wanted, strict=True):
        check_gradient(name, grad, want)


def check_gradient(name, grad, want):
    barely = (want.abs() / torch.finfo(grad.dtype).max - 1).abs() < 0.01
    same = kind(grad) == kind(want.to(grad.dtype))
    assert (same | barely.cpu()).all(), (name, grad, want)
    numbers = grad.isfinite() & want.to(grad.dtype).isfinite()
    found, wanted = grad[numbers].double(), want[numbers]
    largest = wanted.abs().amax().item() if len(wanted) else 0.0
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-2 * largest + 1e-3, msg=f"gradient of {name}")


@settings(modest, max_examples=150)
@given(mixture=collapsed_mixtures(), kind=st.sampled_from(["logsumexp", "weighted"]))
def test_values_and_gradients_are_of_the_same_kind_as_those_of_the_reference(device, mixture, kind):
    inputs, options = mixture
    check_kinds({name: tensor.to(device) for name, tensor in inputs.items()}, mixture=kind, **options)


# Scales of a component that has collapsed onto its sample, their log_std, and its slope, as float32 has it.
COLLAPSED = [
    ("std", 1e-39, math.log(1e-39), math.inf),
    ("var", 1e-40, math.log(1e-20), math.inf),
    ("var", 1e-30, math.log(1e-15), 0.5e30),
    ("log_std", -95.0, -95.0, 1.0),
    ("log_var", -180.0, -90.0, 0.5),
    ("softplus", -100.0, -100.0, 1.0),
    ("precision", 1e30, math.log(1e-15), -0.5e-30),
    ("precision", 3e38, -0.5 * math.log(3e38), -0.5 / 3e38),
]


@pytest.mark.parametrize("features", [1, 3, 20, 32])
@pytest.mark.parametrize("samples", [1, 40])
@pytest.mark.parametrize(("scale_param", "raw", "log_std", "slope"), COLLAPSED)
def test_a_collapse_onto_a_sample_has_a_value(device, scale_param, raw, log_std, slope, samples, features):
    ones = torch.ones(samples, features, device=device)
    for shape in ((samples, 1, features), (1, features)):
        leaves = [
            tensor.clone().requires_grad_()
            for tensor in (ones, ones[:, :1], ones[0].expand(shape), (raw * ones[0]).expand(shape))
        ]
        value = gmm_nll(*leaves, scale_param=scale_param, reduction="none")
        expected = torch.full_like(value, features * (log_std + 0.5 * math.log(2 * math.pi)))
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-5)
        x, logits, mu, scale = torch.autograd.grad(value.sum(), leaves)
        assert not any(grad.any() for grad in (x, logits, mu))
        of_scale = slope * samples / len(leaves[3].reshape(-1, features))
        torch.testing.assert_close(scale, torch.full_like(scale, of_scale), rtol=1e-5, atol=0)


@pytest.mark.parametrize("scale_param", SCALE_PARAMS)
def test_a_point_mass_is_certain_where_it_lies_and_ignored_elsewhere(device, scale_param):
    nothing, wide = raw_scale(scale_param, 0.0), raw_scale(scale_param, 1.0)
    x = torch.tensor([[0.0], [0.5]], device=device)
    logits, mu = x.new_zeros(2), x.new_tensor([[0.0], [0.0]])
    scale = x.new_tensor([[nothing], [wide]]).requires_grad_()
    value = gmm_nll(x, logits, mu, scale, scale_param=scale_param, reduction="none")
    assert value[0] == -math.inf
    assert abs(value[1] - (0.125 + math.log(2) + 0.5 * math.log(2 * math.pi))) < 1e-5
    (grad,) = torch.autograd.grad(value.sum(), scale)
    assert grad.isfinite().all()
    assert grad[0] == 0
    responsibilities = gmm_responsibilities(x, logits, mu, scale, scale_param=scale_param)
    torch.testing.assert_close(responsibilities.cpu(), torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
