"""`gmm_nll` where plain formulas lose their digits, overflow or divide by zero."""

import math

import pytest
import torch

from vtadl_ext import gmm_nll, gmm_responsibilities, reference

from .comparison import assert_close, dtype_id
from .mixtures import (
    NAMES,
    SCALE_PARAMS,
    check_gmm,
    evaluate,
    per_sample,
    per_sample_tril,
    random_mixture,
    raw_scale,
    shared,
    shared_tril,
)

INF = math.inf
MIXTURES = pytest.mark.parametrize("mixture", ["logsumexp", "weighted"])
LEADING = pytest.mark.parametrize("tensors", [per_sample, shared], ids=["per_sample", "shared"])
ALL = pytest.mark.parametrize(
    "tensors",
    [per_sample, shared, per_sample_tril, shared_tril],
    ids=["per_sample", "shared", "per_sample_tril", "shared_tril"],
)
# Gradients after the forward pass, and along with it.
ROUTES = pytest.mark.parametrize("reduction", ["none", "sum"])


def zero(tensor):
    return torch.equal(tensor, torch.zeros_like(tensor))


def univariate(x, logits, mu, scale, device, dtype=torch.float32):
    """One sample of one feature under components given as lists."""
    return {
        "x": torch.tensor([x], dtype=dtype, device=device),
        "logits": torch.tensor(logits, dtype=dtype, device=device),
        "mu": torch.tensor(mu, dtype=dtype, device=device).unsqueeze(-1),
        "scale": torch.tensor(scale, dtype=dtype, device=device).unsqueeze(-1),
    }


@ROUTES
@MIXTURES
@ALL
def test_a_sample_without_components_is_impossible_and_pulls_nothing(device, tensors, mixture, reduction):
    inputs = tensors(3, 4, 5, device=device)
    inputs["logits"] = torch.full_like(inputs["logits"], -INF)
    value, grads = evaluate(inputs, mixture=mixture, reduction=reduction)
    assert torch.equal(value.cpu(), torch.full((3,) if reduction == "none" else (), INF))
    for name, grad in grads.items():
        assert zero(grad), name


@pytest.mark.parametrize("tensors", [per_sample, per_sample_tril], ids=["diagonal", "tril"])
@pytest.mark.parametrize("function", [gmm_responsibilities, reference.gmm_responsibilities])
def test_a_sample_without_components_belongs_to_none(device, tensors, function):
    inputs = tensors(3, 4, 5, device=device)
    inputs["logits"][1] = -INF
    value, grads = evaluate(inputs, function)
    assert zero(value[1])
    for grad in grads.values():
        assert zero(grad[1])
        assert grad.isfinite().all()
    assert_close("sums", value.sum(-1), torch.tensor([1.0, 0.0, 1.0]), 1e-6)


@MIXTURES
@pytest.mark.parametrize("tensors", [per_sample, per_sample_tril], ids=["diagonal", "tril"])
def test_the_reference_agrees_on_samples_without_components(mixture, tensors):
    inputs = tensors(3, 4, 5)
    inputs["logits"][0] = -INF
    value, grads = evaluate(inputs, reference.gmm_nll, mixture=mixture)
    assert value[0] == INF
    assert value[1:].isfinite().all()
    for grad in grads.values():
        assert zero(grad[0])
        assert grad[1:].isfinite().all()


@pytest.mark.parametrize("tensors", [per_sample, per_sample_tril], ids=["diagonal", "tril"])
@ROUTES
def test_a_sample_without_components_leaves_the_gradients_of_others_alone(device, reduction, tensors):
    inputs = tensors(3, 4, 5, device=device)
    _, expected = evaluate(inputs, reduction=reduction)
    masked = inputs | {"logits": inputs["logits"].clone()}
    masked["logits"][1] = -INF
    _, grads = evaluate(masked, reduction=reduction)
    for name, grad in grads.items():
        expected[name][1] = 0
        assert torch.equal(grad, expected[name]), name


HELD = pytest.mark.parametrize("held", [0.0, INF, -INF, math.nan, 1e30], ids=str)
MASKED = pytest.mark.parametrize("masked", [[0], [3], [0, 1, 2]], ids=["first", "last", "all_but_one"])


def check_absence(inputs, masked, held, **options):
    """Against the same mixture without the masked components."""
    unmasked = [k for k in range(4) if k not in masked]
    expected, expected_grads = evaluate(
        {name: tensor if name == "x" else tensor[:, unmasked] for name, tensor in inputs.items()}, **options
    )
    for name in inputs:
        if name != "x":
            inputs[name][:, masked] = -INF if name == "logits" else held
    value, grads = evaluate(inputs, **options)
    assert_close("value", value, expected, 1e-6)
    assert_close("gradient of x", grads.pop("x"), expected_grads["x"], 1e-5, at_least=0.1)
    for name, grad in grads.items():
        assert zero(grad[:, masked]), name
        assert_close(f"gradient of {name}", grad[:, unmasked], expected_grads[name], 1e-5, at_least=0.1)


@ROUTES
@MIXTURES
@HELD
@MASKED
@pytest.mark.parametrize("tensors", [per_sample, per_sample_tril], ids=["diagonal", "tril"])
def test_a_masked_component_is_as_good_as_absent_whatever_it_holds(
    device, tensors, masked, held, mixture, reduction
):
    check_absence(tensors(4, 4, 5, device=device), masked, held, mixture=mixture, reduction=reduction)


@MIXTURES
@HELD
@pytest.mark.parametrize("tensors", [per_sample, per_sample_tril], ids=["diagonal", "tril"])
def test_so_it_is_to_the_reference(tensors, held, mixture):
    check_absence(tensors(4, 4, 5), [1], held, function=reference.gmm_nll, mixture=mixture)


@HELD
@MASKED
@pytest.mark.parametrize("function", [gmm_responsibilities, reference.gmm_responsibilities])
@pytest.mark.parametrize("tensors", [per_sample, per_sample_tril], ids=["diagonal", "tril"])
def test_a_masked_component_is_responsible_for_nothing(device, tensors, masked, held, function):
    inputs = tensors(4, 4, 5, device=device)
    check_absence(inputs, masked, held, function=lambda **inputs: function(**inputs).square().sum(-1))
    assert zero(function(**inputs)[:, masked])


@ROUTES
@MIXTURES
@pytest.mark.parametrize("tensors", [shared, shared_tril], ids=["diagonal", "tril"])
def test_masks_in_a_shared_mixture_agree_with_the_reference(device, tensors, mixture, reduction):
    inputs = tensors(20, 5, 3, device=device)
    inputs["logits"][[0, 3]] = -INF
    check_gmm(inputs, mixture=mixture, reduction=reduction)


@MIXTURES
def test_masks_of_samples_that_share_all_parameters_agree_with_the_reference(device, mixture):
    inputs = random_mixture((20, 3), (20, 5), (5, 3), (1, 1), device=device)
    inputs["logits"][torch.arange(20), torch.arange(20) % 5] = -INF
    inputs["logits"][7] = -INF
    check_gmm(inputs, mixture=mixture, reduction="none")


@pytest.mark.parametrize("log_std", [-80.0, -40.0, 40.0, 85.0])
def test_extreme_scales_agree_with_the_reference(device, log_std):
    # The mean lies as many standard deviations away as in an ordinary mixture.
    std = math.exp(log_std)
    inputs = univariate(0.0, [0.0, 1.0], [std, -2 * std], [log_std, log_std + 0.5], device)
    value, grads = evaluate(inputs)
    expected, expected_grads = evaluate({name: tensor.double() for name, tensor in inputs.items()})
    assert_close("value", value, expected, 1e-6)
    for name in NAMES:
        assert_close(f"gradient of {name}", grads[name], expected_grads[name], 1e-4)


@ROUTES
@LEADING
def test_a_collapsed_component_far_away_has_finite_gradients(device, tensors, reduction):
    # exp(2s) of s = -52 is not a float32: squares of standard deviations would be 0 here, and 0 · inf follow.
    inputs = tensors(3, 4, 5, device=device)
    inputs["scale"][..., 1, :] = -52.0
    value, grads = evaluate(inputs, reduction=reduction)
    assert value.isfinite().all()
    for name, grad in grads.items():
        assert grad.isfinite().all(), name
    for name in ("mu", "scale"):
        assert torch.equal(grads[name][..., 1, :], torch.zeros_like(grads[name][..., 1, :])), name


@pytest.mark.parametrize("scale_param", SCALE_PARAMS)
def test_a_component_too_narrow_for_float32_is_ignored_by_samples_elsewhere(device, scale_param):
    raw, wide = raw_scale(scale_param, 1e-41), raw_scale(scale_param, 1.0)
    value, grads = evaluate(
        univariate(0.5, [0.0, 0.0], [0.0, 0.0], [raw, wide], device), scale_param=scale_param
    )
    expected = 0.125 + math.log(2) + 0.5 * math.log(2 * math.pi)
    assert_close("value", value, torch.tensor(expected), 1e-6)
    for name, grad in grads.items():
        assert grad.isfinite().all(), f"gradient of {name}: {grad.tolist()}"


@ROUTES
@MIXTURES
@ALL
def test_samples_too_far_from_all_components_are_impossible_and_pull_nothing(
    device, tensors, mixture, reduction
):
    inputs = tensors(3, 4, 5, device=device)
    inputs["x"] = torch.full_like(inputs["x"], 1e30)
    value, grads = evaluate(inputs, mixture=mixture, reduction=reduction)
    assert torch.equal(value.cpu(), torch.full((3,) if reduction == "none" else (), INF))
    for name, grad in grads.items():
        assert zero(grad), name


@ALL
@pytest.mark.parametrize("function", [gmm_responsibilities, reference.gmm_responsibilities])
def test_samples_too_far_from_all_components_belong_to_none(device, tensors, function):
    inputs = tensors(3, 4, 5, device=device)
    inputs["x"] = torch.full_like(inputs["x"], 1e30)
    value, grads = evaluate(inputs, function)
    assert zero(value)
    for name, grad in grads.items():
        assert zero(grad), name


@pytest.mark.parametrize("scale_param", SCALE_PARAMS)
def test_the_reference_has_no_gradient_on_the_floor_where_the_slope_is_infinite(scale_param):
    lowest = raw_scale(scale_param, 0.0)
    inputs = univariate(0.5, [0.0, 0.0], [0.25, 0.0], [lowest, 1.0], "cpu")
    value, grads = evaluate(inputs, reference.gmm_nll, scale_param=scale_param, min_std=1e-3)
    assert value.isfinite().all()
    assert all(grad.isfinite().all() for grad in grads.values())
    assert grads["scale"][0] == 0


@LEADING
@pytest.mark.parametrize("scale_param", SCALE_PARAMS)
def test_on_the_floor_the_scale_has_no_gradient_and_no_effect(device, scale_param, tensors):
    inputs = tensors(6, 3, 4, scale_param=scale_param, device=device)
    value, grads = evaluate(inputs, scale_param=scale_param, min_std=10.0)
    ten = inputs | {"scale": torch.full_like(inputs["scale"], math.log(10.0))}
    expected, expected_grads = evaluate(ten)
    assert torch.equal(grads["scale"], torch.zeros_like(inputs["scale"]))
    assert_close("value", value, expected, 1e-6)
    for name in ("x", "logits", "mu"):
        assert_close(f"gradient of {name}", grads[name], expected_grads[name], 1e-5, at_least=0.1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=dtype_id)
@pytest.mark.parametrize("scale_param", SCALE_PARAMS)
def test_the_floor_bounds_the_collapse_of_a_component_onto_a_sample(device, scale_param, dtype):
    lowest = raw_scale(scale_param, 0.0)
    inputs = univariate(0.25, [0.0], [0.25], [lowest], device, dtype)
    value, grads = evaluate(inputs, scale_param=scale_param, min_std=1e-3)
    assert_close("value", value, torch.tensor(math.log(1e-3) + 0.5 * math.log(2 * math.pi)), 1e-6)
    for name, grad in grads.items():
        assert torch.equal(grad, torch.zeros_like(grad)), name


@pytest.mark.parametrize("diagonal", [0.0, -1.0])
def test_factors_without_a_positive_diagonal_have_no_density(device, diagonal):
    inputs = per_sample_tril(3, 2, 4, device=device)
    inputs["scale_tril"][1, :, 2, 2] = diagonal
    value = gmm_nll(**inputs, reduction="none")
    assert value[[0, 2]].isfinite().all()
    assert not value[1].isfinite()


@pytest.mark.parametrize("std", [1e-25, 1e25])
def test_factors_of_extreme_size_agree_with_the_reference(device, std):
    inputs = per_sample_tril(6, 3, 4, device=device)
    for name in ("x", "mu", "scale_tril"):
        inputs[name] = inputs[name] * std
    value, grads = evaluate(inputs)
    expected, expected_grads = evaluate(
        {name: tensor.double() for name, tensor in inputs.items()}, reference.gmm_nll
    )
    assert_close("value", value, expected, 1e-6)
    for name, grad in grads.items():
        unit = 1.0 if name == "logits" else std  # norms of 1e25 and 1e-25 would over- and underflow
        assert_close(f"gradient of {name}", grad.double() * unit, expected_grads[name] * unit, 1e-4)


@pytest.mark.parametrize("features", [31, 700])
def test_many_unlikely_features_neither_under_nor_overflow(device, features):
    inputs = shared(2, 3, features, device=device)
    inputs["x"] = inputs["mu"][:2] + 3.5 * inputs["scale"][:2].exp()
    check_gmm(inputs, reduction="none")


def test_squares_of_half_precision_distances_do_not_overflow(device):
    inputs = univariate(400.0, [0.0, 0.0], [0.0, 10.0], [0.0, 0.0], device, torch.float16)
    value, grads = evaluate(inputs)
    assert value.dtype == torch.float32
    assert_close("value", value, torch.tensor(0.5 * 390.0**2 + math.log(2) + 0.918938533), 1e-6)
    assert_close("gradient of x", grads["x"] / math.cos(1.0), torch.tensor([390.0]), 1e-3)
    assert_close("gradient of mu", grads["mu"] / math.cos(1.0), torch.tensor([[0.0], [-390.0]]), 1e-3)


def test_distant_means_and_small_scales_keep_their_digits(device):
    # Expanding the square would leave differences of numbers around 1e8.
    inputs = random_mixture((64, 8), (3,), (3, 8), (3, 8), device=device)
    inputs["mu"] = 100 + 0.01 * inputs["mu"]
    inputs["x"] = 100 + 0.01 * inputs["x"]
    inputs["scale"] = math.log(0.01) + inputs["scale"]
    check_gmm(inputs, reduction="none")


def test_responsibilities_far_from_all_components_still_sum_to_1(device):
    inputs = shared(20, 5, 3, device=device)
    inputs["x"] = 1e3 * inputs["x"]
    value, grads = evaluate(inputs, gmm_responsibilities)
    assert_close("sums", value.sum(-1), torch.ones(20), 1e-6)
    assert all(grad.isfinite().all() for grad in grads.values())


@MIXTURES
@pytest.mark.parametrize("shift", [-1e4, 1e4])
def test_only_differences_of_logits_matter(device, shift, mixture):
    inputs = per_sample(4, 5, 3, device=device)
    inputs["logits"] = (8 * inputs["logits"]).round()  # exact after the shift
    expected, expected_grads = evaluate(inputs, mixture=mixture)
    value, grads = evaluate(inputs | {"logits": inputs["logits"] + shift}, mixture=mixture)
    assert_close("value", value, expected, 1e-6)
    assert_close("gradient of logits", grads["logits"], expected_grads["logits"], 1e-5)


def test_a_first_component_without_weight_does_not_spoil_the_sum(device):
    inputs = shared(40, 70, 2, device=device)
    inputs["logits"][:33] = -INF  # as many as a warp has lanes, and one more
    check_gmm(inputs, reduction="none")


def test_a_density_above_1_has_a_negative_value(device):
    inputs = univariate(0.0, [0.0], [0.0], [-5.0], device)
    value, _ = evaluate(inputs)
    assert_close("value", value, torch.tensor(-5.0 + 0.918938533), 1e-6)


@pytest.mark.parametrize("name", [*NAMES, "scale_tril"])
def test_a_nan_spoils_its_own_sample_only(device, name):
    tensors = per_sample_tril if name == "scale_tril" else per_sample
    inputs = tensors(4, 3, 5, device=device)
    expected, expected_grads = evaluate(inputs)
    inputs[name] = inputs[name].clone()
    inputs[name][2].view(-1)[5 if name == "scale_tril" else 1] = math.nan
    value, grads = evaluate(inputs)
    others = [0, 1, 3]
    assert value[2].isnan()
    assert torch.equal(value[others], expected[others])
    for name, grad in grads.items():
        assert torch.equal(grad[others], expected_grads[name][others]), name


@ROUTES
@pytest.mark.parametrize("name", [*NAMES, "scale_tril"])
def test_a_nan_in_what_all_samples_share_spoils_all_of_them(device, name, reduction):
    inputs = (shared_tril if name == "scale_tril" else shared)(4, 3, 5, device=device)
    inputs[name].view(-1)[5 if name == "scale_tril" else 1] = math.nan
    value, grads = evaluate(inputs, reduction=reduction)
    if name == "x" and reduction == "none":
        assert value.isnan().tolist() == [True, False, False, False]
    else:
        assert value.isnan().all()
    assert grads["mu"].isnan().any()


def test_float32_sums_over_many_samples_keep_their_digits(device):
    inputs = random_mixture((3000, 2), (2,), (2, 2), (2, 2), device=device)
    inputs["x"] = inputs["x"].abs() + 3  # all gradients of mu have one sign
    check_gmm(inputs, reduction="sum")


@MIXTURES
@LEADING
@pytest.mark.parametrize("features", [2, 20])
@pytest.mark.parametrize("samples", [3, 40])
def test_an_infinite_logit_is_an_error_that_shows(device, samples, features, tensors, mixture):
    inputs = tensors(samples, 4, features, device=device)
    inputs["logits"][..., 1] = INF
    for reduction in ("none", "mean"):
        value, grads = evaluate(inputs, mixture=mixture, reduction=reduction)
        assert value.isnan().all()
        for name, grad in grads.items():
            assert grad.isnan().any(), name


@MIXTURES
@pytest.mark.parametrize("features", [2, 20])
def test_a_component_whose_weight_underflows_is_as_good_as_masked(device, mixture, features):
    inputs = per_sample(3, 2, features, device=device)
    inputs["logits"][:] = torch.tensor([0.0, -200.0], device=device)
    inputs["mu"][:, 1] = 1e30
    value, grads = evaluate(inputs, mixture=mixture)
    alone = {name: tensor if name == "x" else tensor[:, :1] for name, tensor in inputs.items()}
    expected, expected_grads = evaluate(alone, mixture=mixture)
    assert_close("value", value, expected, 1e-6)
    assert_close("gradient of x", grads["x"], expected_grads["x"], 1e-5)
    for name in ("mu", "scale"):
        assert torch.equal(grads[name][:, 1], torch.zeros_like(grads[name][:, 1])), name
