"""`gmm_nll` and its gradients against the float64 reference."""

import itertools

import pytest
import torch

from vtadl_ext import gmm_nll

from .comparison import DTYPES, LAYOUTS, assert_close, dtype_id, value_and_grads
from .mixtures import NAMES, SCALE_PARAMS, check_gmm, per_sample, random_mixture, shared

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
    "many samples share": [(600, 3), (2,), (2, 3), (2, 1)],
    "many rows share": [(40, 3, 2), (3,), (40, 1, 3, 2), (3, 2)],
}


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
@pytest.mark.parametrize("size", SIZES, ids=lambda size: "N{}-K{}-D{}".format(*size))
def test_sizes_agree_with_the_reference(device, size, dtype):
    check_gmm(per_sample(*size, dtype=dtype, device=device), reduction="none")


@pytest.mark.parametrize("mixture", ["logsumexp", "weighted"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=dtype_id)
@pytest.mark.parametrize("shapes", BROADCASTS.values(), ids=[name.replace(" ", "_") for name in BROADCASTS])
def test_broadcast_dimensions_agree_with_the_reference(device, shapes, dtype, mixture):
    check_gmm(random_mixture(*shapes, dtype=dtype, device=device), mixture=mixture, reduction="none")


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
@pytest.mark.parametrize("tensors", [per_sample, shared], ids=["per_sample", "shared"])
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=dtype_id)
@pytest.mark.parametrize(
    "shapes",
    [
        [(40, 65), (40, 5), (40, 5, 65), (40, 5, 65)],
        [(300, 20), (3,), (3, 20), (3, 1)],
        [(20, 15, 4), (3,), (20, 1, 3, 4), (15, 3, 4)],
    ],
    ids=["per_sample", "shared", "mixed"],
)
def test_repeated_runs_give_the_same_bits(device, shapes, dtype):
    inputs = random_mixture(*shapes, dtype=dtype, device=device)

    def run():
        value, grads = value_and_grads(lambda *tensors: gmm_nll(*tensors, reduction="none"), inputs.values())
        return [value, *grads]

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


def test_the_graph_can_be_used_twice(device):
    inputs = [tensor.requires_grad_() for tensor in shared(5, 3, 4, device=device).values()]
    value = gmm_nll(*inputs)
    first = torch.autograd.grad(value, inputs, retain_graph=True)
    second = torch.autograd.grad(value, inputs)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_changed_input_is_noticed_before_the_backward_pass(device):
    x, *parameters = shared(5, 3, 4, device=device).values()
    value = gmm_nll(x.requires_grad_(), *parameters)
    with torch.no_grad():
        x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()
