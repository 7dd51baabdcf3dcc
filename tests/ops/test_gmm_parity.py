"""`gmm_nll` and its gradients against the float64 reference."""

import itertools
import math

import pytest
import torch

from vtadl_ext import _gmm_ops, gmm_log_prob, gmm_nll, gmm_responsibilities

from .comparison import DTYPES, LAYOUTS, assert_close, dtype_id, value_and_grads
from .mixtures import (
    NAMES,
    SCALE_PARAMS,
    check_gmm,
    check_log_prob,
    check_responsibilities,
    evaluate,
    per_position,
    per_sample,
    per_sample_tril,
    random_mixture,
    shared,
    shared_tril,
)

ALL = pytest.mark.parametrize(
    "tensors",
    [per_sample, shared, per_sample_tril, shared_tril],
    ids=["per_sample", "shared", "per_sample_tril", "shared_tril"],
)

# Samples, components, features: around the sizes of warps, vectors and tiles.
SIZES = [
    (7, 1, 1),
    (19, 5, 2),
    (3, 150, 3),
    (3, 5, 31),
    (2, 10, 32),
    (17, 3, 33),
    (2, 5, 512),
    (1, 3, 700),
    (2, 150, 33),
    (40, 12, 16),
]

# Shapes of x, logits, mu and scale.
BROADCASTS = {
    "one mixture for all samples": [(2, 3, 5), (4,), (4, 5), (4, 5)],
    "one mixture and one sample": [(5,), (4,), (4, 5), (4, 5)],
    "one sample under many mixtures": [(5,), (2, 3, 4), (2, 3, 4, 5), (2, 3, 4, 5)],
    "a mixture per row": [(2, 3, 5), (2, 1, 4), (2, 1, 4, 5), (2, 1, 4, 5)],
    "a mixture per position": [(2, 3, 5), (3, 4), (3, 4, 5), (3, 4, 5)],
    "means per row, scales per position": [(2, 3, 5), (4,), (2, 1, 4, 5), (3, 4, 5)],
    "means per sample, scales shared": [(6, 5), (6, 4), (6, 4, 5), (4, 5)],
    "means shared, scales per sample": [(6, 5), (6, 4), (4, 5), (6, 4, 5)],
    "every sample under every mixture": [(6, 1, 5), (3, 4), (3, 4, 5), (3, 4, 5)],
    "alternating dimensions": [(2, 1, 3, 1, 2, 5), (3, 1, 2, 1, 4), (2, 3, 1, 2, 1, 4, 5), (3, 1, 1, 4, 5)],
    "dimensions of size 1": [(1, 1, 5), (1, 4), (1, 4, 5), (1, 1, 4, 5)],
    "one mean for all features": [(6, 5), (6, 4), (6, 4, 1), (6, 4, 5)],
    "spherical": [(6, 5), (6, 4), (6, 4, 5), (6, 4, 1)],
    "one mean for all features, spherical": [(6, 5), (6, 4), (6, 4, 1), (6, 4, 1)],
    "spherical and shared": [(6, 5), (4,), (4, 5), (4, 1)],
    "one mean for all features, per row": [(2, 3, 5), (4,), (2, 1, 4, 1), (3, 4, 5)],
    "one mean for many features, spherical": [(2, 700), (2, 3), (2, 3, 1), (2, 3, 1)],
    "one scale for all components": [(6, 5), (6, 4), (6, 4, 5), (6, 1, 5)],
    "one number for all scales of a sample": [(6, 5), (6, 4), (6, 4, 5), (6, 1, 1)],
    "one scale for all components and samples": [(6, 5), (6, 4), (6, 4, 5), (1, 5)],
    "one number for all scales": [(6, 5), (6, 4), (6, 4, 5), (1, 1)],
    "one scale for all components, per row": [(2, 3, 5), (4,), (3, 4, 5), (2, 1, 1, 5)],
    "one mean for all components": [(6, 5), (6, 4), (6, 1, 5), (6, 4, 5)],
    "one number for all means of a sample": [(6, 5), (6, 4), (6, 1, 1), (6, 4, 5)],
    "one mean for all components and samples": [(6, 5), (6, 4), (1, 5), (6, 4, 1)],
    "one mean and one scale for all components": [(6, 5), (6, 4), (6, 1, 5), (6, 1, 5)],
    "one scale for many components and features": [(3, 65), (3, 40), (3, 40, 65), (1, 65)],
    "many samples share one number": [(600, 3), (2,), (2, 3), (1, 1)],
    "many samples share": [(600, 3), (2,), (2, 3), (2, 1)],
    "many rows share": [(40, 3, 2), (3,), (40, 1, 3, 2), (3, 2)],
}


# Shapes of x, logits, mu and scale_tril.
TRIL_BROADCASTS = {
    "one mixture for all samples": [(2, 3, 5), (4,), (4, 5), (4, 5, 5)],
    "a mixture per sample": [(6, 5), (6, 4), (6, 4, 5), (6, 4, 5, 5)],
    "a mixture per row": [(2, 3, 5), (2, 1, 4), (2, 1, 4, 5), (2, 1, 4, 5, 5)],
    "one covariance for all components": [(6, 5), (6, 4), (6, 4, 5), (6, 1, 5, 5)],
    "one covariance for all components and samples": [(6, 5), (6, 4), (6, 4, 5), (1, 5, 5)],
    "one mean for all components": [(6, 3), (6, 4), (6, 1, 3), (6, 4, 3, 3)],
    "one mean for all features": [(6, 3), (6, 4), (6, 4, 1), (6, 4, 3, 3)],
    "one number for all means": [(6, 3), (6, 4), (1, 1), (4, 3, 3)],
    "means per row, covariances per position": [(2, 3, 2), (4,), (2, 1, 4, 2), (3, 4, 2, 2)],
    "one feature": [(6, 1), (6, 4), (6, 4, 1), (6, 4, 1, 1)],
    "many samples share": [(600, 3), (2,), (2, 3), (2, 3, 3)],
    "every sample under every mixture": [(6, 1, 5), (3, 4), (3, 4, 5), (3, 4, 5, 5)],
}


# On a GPU these take 1, 2, 4 and 8 blocks of a cluster, two on a multiprocessor; 8 that are alone on one; and
# more than a cluster has.
@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
@pytest.mark.parametrize("mixture", ["logsumexp", "weighted"])
@pytest.mark.parametrize("components", [20, 50, 100, 150, 300, 900])
def test_large_mixtures_of_a_sample_agree(device, components, mixture, dtype):
    inputs = per_sample(5, components, 512, dtype=dtype, device=device)
    inputs["mu"] *= 0.1  # all components shall have weight
    check_gmm(inputs, mixture=mixture, for_rounding=True)


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
@pytest.mark.parametrize("size", SIZES, ids=lambda size: "N{}-K{}-D{}".format(*size))
def test_sizes_agree_with_the_reference(device, size, dtype):
    check_gmm(per_sample(*size, dtype=dtype, device=device), reduction="none")


@pytest.mark.parametrize("mixture", ["logsumexp", "weighted"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=dtype_id)
@pytest.mark.parametrize("shapes", BROADCASTS.values(), ids=[name.replace(" ", "_") for name in BROADCASTS])
def test_broadcast_dimensions_agree_with_the_reference(device, shapes, dtype, mixture):
    check_gmm(random_mixture(*shapes, dtype=dtype, device=device), mixture=mixture, reduction="none")


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
@pytest.mark.parametrize("features", [5, 16, 24, 37])
@pytest.mark.parametrize("samples", [2, 7, 15, 16, 31, 32, 50])
def test_any_number_of_samples_of_each_mixture_agrees_with_the_reference(device, samples, features, dtype):
    check_gmm(per_position(samples, 3, features, dtype=dtype, device=device))


@pytest.mark.parametrize("mixture", ["logsumexp", "weighted"])
@pytest.mark.parametrize("scale_param", SCALE_PARAMS)
def test_mixtures_of_positions_take_every_option(device, scale_param, mixture):
    inputs = per_position(7, 3, 24, scale_param=scale_param, device=device)
    options = {"scale_param": scale_param, "min_std": 0.9, "mixture": mixture}
    check_gmm(inputs, reduction="none", **options)


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
def test_responsibilities_of_positions_agree_with_the_reference(device, dtype):
    check_responsibilities(per_position(7, 3, 24, dtype=dtype, device=device))


@pytest.mark.parametrize("held", [0.0, math.nan, math.inf])
@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
@pytest.mark.parametrize("mixture", ["logsumexp", "weighted"])
def test_what_is_masked_at_all_positions_does_not_count(device, mixture, dtype, held):
    inputs = per_position(7, 3, 24, dtype=dtype, device=device)
    inputs["logits"][..., 1] = -math.inf
    copies = {name: tensor if name == "x" else tensor.clone() for name, tensor in inputs.items()}
    for name in ("mu", "scale"):
        inputs[name][:, 1] = held
    value, grads = evaluate(inputs, mixture=mixture)
    expected, expected_grads = evaluate(copies, mixture=mixture)
    assert torch.equal(value, expected)
    assert all(torch.equal(grads[name], expected_grads[name]) for name in grads)


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
@pytest.mark.parametrize("features", range(1, 9))
def test_full_covariances_of_every_size_agree_with_the_reference(device, features, dtype):
    check_gmm(per_sample_tril(5, 3, features, dtype=dtype, device=device), reduction="none")


@pytest.mark.parametrize("mixture", ["logsumexp", "weighted"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=dtype_id)
@pytest.mark.parametrize(
    "shapes", TRIL_BROADCASTS.values(), ids=[name.replace(" ", "_") for name in TRIL_BROADCASTS]
)
def test_broadcast_dimensions_of_full_covariances_agree_with_the_reference(device, shapes, dtype, mixture):
    inputs = random_mixture(*shapes[:3], scale_tril=shapes[3], dtype=dtype, device=device)
    check_gmm(inputs, mixture=mixture, reduction="none")


@pytest.mark.parametrize("tensors", [per_sample_tril, shared_tril], ids=["per_sample", "shared"])
def test_what_lies_above_the_diagonal_is_neither_read_nor_moved(device, tensors):
    inputs = tensors(5, 3, 4, device=device)
    expected, expected_grads = evaluate(inputs)
    above = torch.ones(4, 4, dtype=torch.bool, device=device).triu(1)
    value, grads = evaluate(inputs | {"scale_tril": inputs["scale_tril"].masked_fill(above, torch.nan)})
    assert torch.equal(value, expected)
    for name, grad in grads.items():
        assert torch.equal(grad, expected_grads[name]), name
    assert not grads["scale_tril"][..., above].any()


def test_a_diagonal_factor_is_as_good_as_standard_deviations(device):
    inputs = per_sample(5, 3, 4, scale_param="std", device=device)
    value, grads = evaluate(inputs, scale_param="std")
    scale = inputs.pop("scale")
    tril_value, tril_grads = evaluate(inputs | {"scale_tril": scale.diag_embed()})
    assert_close("value", tril_value, value, 1e-6)
    grads["scale_tril"] = grads.pop("scale")
    tril_grads["scale_tril"] = tril_grads["scale_tril"].diagonal(dim1=-2, dim2=-1)
    for name, grad in grads.items():
        assert_close(f"gradient of {name}", tril_grads[name], grad, 1e-5)


@pytest.mark.parametrize("mixture", ["logsumexp", "weighted"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@ALL
def test_gradients_of_both_passes_at_once_are_those_of_one_after_another(device, tensors, reduction, mixture):
    inputs = tensors(37, 5, 6, device=device)
    together, grads = evaluate(inputs, reduction=reduction, mixture=mixture)
    separate, expected = evaluate(
        inputs, lambda **tensors: getattr(gmm_nll(**tensors, mixture=mixture, reduction="none"), reduction)()
    )
    assert_close("value", together, separate, 1e-6)
    for name, grad in grads.items():
        assert_close(f"gradient of {name}", grad, expected[name], 1e-6)


@ALL
def test_the_log_density_is_the_likelihood_of_each_sample(device, tensors):
    inputs = tensors(5, 3, 4, device=device)
    assert torch.equal(gmm_log_prob(**inputs), -gmm_nll(**inputs, reduction="none"))
    check_log_prob(inputs)


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
@ALL
def test_responsibilities_agree_with_the_reference(device, tensors, dtype):
    inputs = tensors(7, 3, 4, dtype=dtype, device=device)
    check_responsibilities(inputs)


@pytest.mark.parametrize("min_std", [0.0, 0.9], ids=["no_floor", "floor"])
@pytest.mark.parametrize("scale_param", SCALE_PARAMS)
def test_responsibilities_take_every_parametrisation(device, scale_param, min_std):
    inputs = per_sample(4, 3, 6, scale_param=scale_param, device=device)
    check_responsibilities(inputs, scale_param=scale_param, min_std=min_std)


@pytest.mark.parametrize("shapes", BROADCASTS.values(), ids=[name.replace(" ", "_") for name in BROADCASTS])
def test_responsibilities_broadcast(device, shapes):
    inputs = random_mixture(*shapes, device=device)
    check_responsibilities(inputs)


def test_responsibilities_are_those_of_bayes(device):
    inputs = per_sample(5, 3, 4, device=device)
    responsibilities = gmm_responsibilities(**inputs)
    assert responsibilities.shape == (5, 3)
    assert_close("sum", responsibilities.sum(-1), torch.ones(5), 1e-6)
    logits = inputs["logits"].clone().requires_grad_()  # d log_prob / d logits = responsibilities - weights
    (grad,) = torch.autograd.grad(gmm_log_prob(**inputs | {"logits": logits}).sum(), logits)
    assert_close("responsibilities", responsibilities, grad + logits.softmax(-1), 1e-6)


@pytest.mark.parametrize("tensors", [per_sample, shared], ids=["per_sample", "shared"])
@pytest.mark.parametrize("mixture", ["logsumexp", "weighted"])
@pytest.mark.parametrize("min_std", [0.0, 0.9], ids=["no_floor", "floor"])
@pytest.mark.parametrize("scale_param", SCALE_PARAMS)
def test_options_agree_with_the_reference(device, scale_param, min_std, mixture, tensors):
    inputs = tensors(4, 3, 6, scale_param=scale_param, device=device)
    check_gmm(inputs, scale_param=scale_param, min_std=min_std, mixture=mixture, reduction="none")


@pytest.mark.parametrize("scale_param", SCALE_PARAMS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=dtype_id)
def test_every_parametrisation_takes_every_dtype(device, scale_param, dtype):
    inputs = per_sample(4, 3, 6, scale_param=scale_param, dtype=dtype, device=device)
    check_gmm(inputs, scale_param=scale_param, min_std=0.9, reduction="none")


@pytest.mark.parametrize("scale_param", SCALE_PARAMS)
def test_a_mixture_does_not_depend_on_its_parametrisation(device, scale_param):
    expected = gmm_nll(*per_sample(5, 3, 4, device=device).values(), reduction="none")
    inputs = per_sample(5, 3, 4, scale_param=scale_param, device=device)
    value = gmm_nll(*inputs.values(), scale_param=scale_param, reduction="none")
    assert_close("value", value, expected, 1e-5)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
@ALL
def test_reductions_agree_with_the_reference(device, tensors, dtype, reduction):
    check_gmm(tensors(9, 3, 4, dtype=dtype, device=device), reduction=reduction)


def test_one_standard_normal_has_the_value_of_its_formula(device):
    zeros = torch.zeros(1, 1, device=device)
    x = torch.tensor([[0.0], [2.0]], device=device)
    value = gmm_nll(x, zeros[0], zeros, zeros, reduction="none")
    assert_close("value", value, torch.tensor([0.918938533, 2.918938533]), 1e-7)


def test_the_weighted_mixture_is_an_upper_bound(device):
    inputs = per_sample(50, 4, 3, device=device).values()
    bound = gmm_nll(*inputs, mixture="weighted", reduction="none")
    assert (bound > gmm_nll(*inputs, reduction="none")).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=dtype_id)
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
@pytest.mark.parametrize("names", [*((name,) for name in NAMES), NAMES], ids=[*NAMES, "all"])
def test_strides_do_not_matter(device, names, layout, dtype):
    inputs = per_sample(4, 3, 6, dtype=dtype, device=device)
    relaid = {name: layout(tensor) if name in names else tensor for name, tensor in inputs.items()}
    assert all(torch.equal(relaid[name], inputs[name]) for name in NAMES)
    value, grads = value_and_grads(lambda *tensors: gmm_nll(*tensors, reduction="none"), inputs.values())
    relaid_value, relaid_grads = value_and_grads(
        lambda *tensors: gmm_nll(*tensors, reduction="none"), relaid.values()
    )
    assert torch.equal(relaid_value, value)
    for name, grad, relaid_grad in zip(NAMES, grads, relaid_grads, strict=True):
        assert torch.equal(relaid_grad, grad), name


@pytest.mark.parametrize("name", NAMES)
def test_expanded_tensors_get_a_gradient_for_each_element(device, name):
    inputs = per_sample(1, 3, 6, device=device)
    inputs = {other: tensor.expand(5, *tensor.shape[1:]).clone() for other, tensor in inputs.items()}
    check_gmm(inputs | {name: inputs[name][:1].expand_as(inputs[name])}, reduction="none")


@pytest.mark.parametrize("tensors", [per_sample, shared], ids=["per_sample", "shared"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_no_samples_have_an_empty_result_and_zero_gradients(device, reduction, tensors):
    inputs = tensors(0, 3, 4, device=device)
    value, grads = value_and_grads(lambda *tensors: gmm_nll(*tensors, reduction=reduction), inputs.values())
    expected = {"mean": torch.tensor(torch.nan), "sum": torch.tensor(0.0), "none": torch.empty(0)}[reduction]
    torch.testing.assert_close(value.cpu(), expected, rtol=0, atol=0, equal_nan=True)
    for grad, tensor in zip(grads, inputs.values(), strict=True):
        assert torch.equal(grad, torch.zeros_like(tensor))


@ALL
def test_no_samples_have_no_responsibilities(device, tensors):
    value, grads = evaluate(tensors(0, 3, 4, device=device), gmm_responsibilities)
    assert value.shape == (0, 3)
    assert not any(grad.any() for grad in grads.values())


def test_an_empty_dimension_among_others_is_empty(device):
    inputs = random_mixture((2, 0, 5), (2, 1, 3), (3, 5), (2, 1, 3, 1), device=device)
    value, grads = value_and_grads(lambda *tensors: gmm_nll(*tensors, reduction="none"), inputs.values())
    assert value.shape == (2, 0)
    assert all(
        torch.equal(grad, torch.zeros_like(tensor))
        for grad, tensor in zip(grads, inputs.values(), strict=True)
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
def test_a_single_element_agrees_with_the_reference(device, dtype):
    check_gmm(random_mixture((1,), (1,), (1, 1), (1, 1), dtype=dtype, device=device))


@pytest.mark.parametrize("shapes", ["per sample", "one mean for all features, per row"], ids=str.split)
@pytest.mark.parametrize(
    "needs",
    [needs for needs in itertools.product([False, True], repeat=4) if any(needs)],
    ids=lambda needs: "-".join(name for name, need in zip(NAMES, needs, strict=True) if need),
)
def test_only_the_wanted_gradients_are_computed(device, needs, shapes):
    if shapes == "per sample":
        inputs = per_sample(5, 3, 4, device=device)
    else:
        inputs = random_mixture(*BROADCASTS[shapes], device=device)
    check_gmm(inputs, needs=needs, reduction="none")


def test_no_gradients_are_recorded_where_nobody_asks(device):
    assert not gmm_nll(*shared(3, 2, 4, device=device).values()).requires_grad


REPEATED = {
    "per sample": [(40, 65), (40, 5), (40, 5, 65), (40, 5, 65)],
    "shared": [(300, 20), (3,), (3, 20), (3, 1)],
    "mixed": [(20, 15, 4), (3,), (20, 1, 3, 4), (15, 3, 4)],
    "one scale for all components": [(300, 20), (300, 3), (300, 3, 20), (1, 20)],
    "full covariances": [(300, 4), (3,), (3, 4), (3, 4, 4)],
}


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=dtype_id)
@pytest.mark.parametrize("shapes", REPEATED.values(), ids=[name.replace(" ", "_") for name in REPEATED])
def test_repeated_runs_give_the_same_bits(device, shapes, dtype, reduction):
    name = "scale_tril" if shapes == REPEATED["full covariances"] else "scale"
    inputs = random_mixture(*shapes[:3], **{name: shapes[3]}, dtype=dtype, device=device)

    def run():
        value, grads = evaluate(inputs, reduction=reduction)
        return [value, *grads.values()]

    threads = torch.get_num_threads()
    first = run()
    try:
        for count in (1, 2, 3, threads):
            torch.set_num_threads(count)
            assert all(torch.equal(again, before) for again, before in zip(run(), first, strict=True))
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("tensors", [per_sample, shared], ids=["per_sample", "shared"])
def test_inputs_are_not_changed(device, tensors):
    inputs = tensors(5, 3, 4, device=device)
    before = {name: tensor.clone() for name, tensor in inputs.items()}
    value_and_grads(lambda *tensors: gmm_nll(*tensors, min_std=0.9), inputs.values())
    assert all(torch.equal(inputs[name], before[name]) for name in NAMES)


@pytest.mark.parametrize("upstream", [1.0, -3.0])
@ALL
def test_the_graph_can_be_used_twice(device, tensors, upstream):
    named = tensors(5, 3, 4, device=device)
    inputs = [tensor.requires_grad_() for tensor in named.values()]
    value = gmm_nll(**named)
    upstream = torch.tensor(upstream, device=device)
    first = torch.autograd.grad(value, inputs, upstream, retain_graph=True)
    copies = [grad.clone() for grad in first]
    second = torch.autograd.grad(value, inputs, 2 * upstream, retain_graph=True)
    third = torch.autograd.grad(value, inputs, 2 * upstream)
    for name, *grads in zip(named, first, copies, second, third, strict=True):
        assert torch.equal(grads[0], grads[1]), name
        assert_close(f"gradient of {name}", grads[2], 2 * grads[0], 1e-6, at_least=0.1)
        assert torch.equal(grads[2], grads[3]), name


def test_the_first_backward_pass_takes_the_gradients_of_the_forward_pass(device, monkeypatch):
    inputs = [tensor.requires_grad_() for tensor in shared(5, 3, 4, device=device).values()]
    value = gmm_nll(*inputs)
    monkeypatch.setattr(_gmm_ops, "gradients", lambda *_: pytest.fail("computed again"))
    assert torch.autograd.grad(value, inputs)[0].any()


@pytest.mark.parametrize("reason", ["nothing to differentiate", "no_grad", "float16", "no reduction"])
def test_gradients_are_not_computed_ahead_without_need(device, monkeypatch, reason):
    monkeypatch.setattr(_gmm_ops.GMMLoss, "apply", lambda *_: pytest.fail("computed ahead"))
    dtype = torch.float16 if reason == "float16" else torch.float32
    inputs = shared(5, 3, 4, device=device, dtype=dtype)
    inputs["mu"].requires_grad_(reason != "nothing to differentiate")
    with torch.set_grad_enabled(reason != "no_grad"):
        gmm_nll(**inputs, reduction="none" if reason == "no reduction" else "mean")


def test_gradients_under_a_loss_scale_do_not_vanish_in_half_precision(device):
    inputs = shared(4096, 2, 3, device=device, dtype=torch.float16)
    x = inputs["x"].requires_grad_()
    (grad,) = torch.autograd.grad(gmm_nll(**inputs), x, torch.tensor(2.0**16, device=device))
    exact = {name: tensor.detach().double() for name, tensor in inputs.items()}
    expected = torch.autograd.grad(gmm_nll(**exact | {"x": exact["x"].requires_grad_()}), exact["x"])[0]
    assert_close("gradient of x", grad.double() / 2**16, expected, 1e-3)


def test_a_changed_input_is_noticed_before_the_backward_pass(device):
    x, *parameters = shared(5, 3, 4, device=device).values()
    value = gmm_nll(x.requires_grad_(), *parameters)
    with torch.no_grad():
        x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()
