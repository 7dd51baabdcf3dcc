"""Every operator under every transformation, and two of them nested, against the reference under them."""

from collections.abc import Callable, Sequence
from functools import partial

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
import torch.utils.checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import functional
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import FlopCounterMode

import vtadl_ext
from vtadl_ext import MixtureHead, reference

from .comparison import assert_close, upstream_for
from .heads import random_head
from .images import random_images
from .mixtures import per_sample, per_sample_tril, shared

Function = Callable[..., Tensor]


def mixtures(samples: int, tensors=per_sample, **options) -> list[Tensor]:
    return list(tensors(samples, 3, 2, dtype=torch.float64, **options).values())


def images(count: int) -> list[Tensor]:
    return list(random_images(count, 1, 5, 6, dtype=torch.float64).values())


def head(samples: int) -> list[Tensor]:
    return list(random_head(samples, 3, 2, dtype=torch.float64)[0].values())


# The call of each operator, and its tensors for a number of samples or images.
OPERATORS = {
    "gmm_nll": (partial(mixtures), {}),
    "gmm_nll of a shared mixture": (partial(mixtures, tensors=shared), {}),
    "gmm_nll of each sample": (partial(mixtures), {"reduction": "none", "min_std": 0.9}),
    "gmm_nll, weighted": (
        partial(mixtures, scale_param="softplus"),
        {"mixture": "weighted", "scale_param": "softplus"},
    ),
    "gmm_nll with full covariances": (partial(mixtures, tensors=per_sample_tril), {}),
    "gmm_log_prob": (mixtures, {}),
    "gmm_responsibilities": (mixtures, {}),
    "linear_gmm_nll": (head, {"num_components": 3}),
    "linear_gmm_nll of each sample": (head, {"num_components": 3, "reduction": "none", "memory_budget": 200}),
    "ssim": (images, {"window_size": 5}),
    "ssim of each image": (images, {"window_size": 5, "reduction": "none", "padding": "same"}),
    "ssim as a map": (images, {"window_size": 3, "reduction": "map", "padding": "reflect"}),
    "ssim of valid pixels": (images, {"window_size": 3, "padding": "reflect"}),
    "ms_ssim": (images, {"window_size": 3, "weights": (0.4, 0.6)}),
    "reconstruction_loss": (images, {"window_size": 5, "l1": 0.5}),
}


def functions(name: str) -> tuple[Function, Function]:
    """The operator and its reference, of tensors by position."""
    _, options = OPERATORS[name]
    function = name.replace(",", "").split()[0]

    def of(library):
        if "full covariances" in name:
            return lambda x, logits, mu, tril: getattr(library, function)(
                x, logits, mu, scale_tril=tril, **options
            )
        if "valid pixels" in name:
            return lambda x, y: library.ssim(x, y, mask=x.detach() > 0.3, **options)
        return lambda *tensors: getattr(library, function)(*tensors, **options)

    return of(vtadl_ext), of(reference)


def scalar(function: Function) -> Function:
    """A scalar with derivatives of every order in the function's value."""

    def of_value(*tensors):
        value = function(*tensors)
        return (value * value.cos() + value).sum()

    return of_value


def tangents(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return tuple(upstream_for(tensor) for tensor in tensors)


def dot(tensors: Sequence[Tensor]) -> Tensor:
    return sum((tensor * upstream_for(tensor)).sum() for tensor in tensors)


# Each turns a function into another one of the same tensors, which can be transformed again.


def grad(function: Function) -> Function:
    return lambda *tensors: dot(torch.func.grad(scalar(function), tuple(range(len(tensors))))(*tensors))


def vjp(function: Function) -> Function:
    def of_tensors(*tensors):
        value, pull_back = torch.func.vjp(function, *tensors)
        return dot(pull_back(value.sin()))

    return of_tensors


def jvp(function: Function) -> Function:
    return lambda *tensors: torch.func.jvp(function, tensors, tangents(tensors))[1]


def jacfwd(function: Function) -> Function:
    return lambda first, *others: torch.func.jacfwd(function)(first, *others)


def jacrev(function: Function) -> Function:
    return lambda first, *others: torch.func.jacrev(function)(first, *others)


def vmap(function: Function) -> Function:
    return lambda *tensors: torch.func.vmap(function)(
        *(torch.stack([tensor, 0.9 * tensor]) for tensor in tensors)
    )


def autograd(function: Function) -> Function:
    """A gradient that is part of the graph, as a penalty on it is."""

    def of_tensors(*tensors):
        leaves = [tensor if tensor.requires_grad else tensor.clone().requires_grad_() for tensor in tensors]
        return dot(torch.autograd.grad(scalar(function)(*leaves), leaves, create_graph=True))

    return of_tensors


FUNCTIONAL = [grad, vjp, jvp, jacfwd, jacrev, vmap]
# Eager autograd can be around functional transformations, but not inside of them.
PAIRS = [(inner, outer) for inner in FUNCTIONAL for outer in [*FUNCTIONAL, autograd]] + [(autograd, autograd)]


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: "-".join(transform.__name__ for transform in pair))
@settings(max_examples=1, deadline=None, derandomize=True)
@given(data=st.data())
def test_nested_transformations_agree_with_those_of_the_reference(name, pair, data):
    operator, oracle = functions(name)
    tensors = OPERATORS[name][0](1 if "ssim" in name else data.draw(st.integers(1, 2)))
    for transform in pair:
        operator, oracle = transform(operator), transform(oracle)
    assert_close("result", operator(*tensors), oracle(*tensors), 1e-8, at_least=1e-3)


@pytest.mark.parametrize("name", OPERATORS)
def test_a_third_derivative_is_that_of_the_reference(name):
    operator, oracle = functions(name)
    tensors = OPERATORS[name][0](2)
    for transform in (autograd, autograd, autograd):
        operator, oracle = transform(operator), transform(oracle)
    assert_close("derivative", operator(*tensors), oracle(*tensors), 1e-7, at_least=1e-3)


@pytest.mark.parametrize("name", OPERATORS)
def test_second_derivatives_are_those_of_the_reference(device, name):
    operator, oracle = functions(name)
    tensors = [tensor.to(device) for tensor in OPERATORS[name][0](2)]

    def derivatives(function):
        leaves = [tensor.clone().requires_grad_() for tensor in tensors]
        value = function(*leaves)
        upstream = upstream_for(value).requires_grad_()
        grads = torch.autograd.grad(value, leaves, upstream, create_graph=True)
        return torch.autograd.grad(dot(grads), [*leaves, upstream])

    for of_operator, of_oracle in zip(derivatives(operator), derivatives(oracle), strict=True):
        assert_close("derivative", of_operator, of_oracle, 1e-9, at_least=1e-3)


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("among", ["all", "last"])
def test_dual_tensors_carry_their_tangents_through(name, among):
    operator, oracle = functions(name)
    tensors = OPERATORS[name][0](2)

    def directional(function):
        with forward_ad.dual_level():
            duals = [forward_ad.make_dual(*pair) for pair in zip(tensors, tangents(tensors), strict=True)]
            chosen = duals if among == "all" else [*tensors[:-1], duals[-1]]
            return forward_ad.unpack_dual(function(*chosen))

    for of_operator, of_oracle in zip(directional(operator), directional(oracle), strict=True):
        assert_close("value or tangent", of_operator, of_oracle, 1e-10)


@pytest.mark.parametrize("name", OPERATORS)
def test_forward_mode_over_a_gradient_is_that_of_the_reference(name):
    operator, oracle = functions(name)
    tensors = OPERATORS[name][0](2)

    def directional(function):
        leaves = [tensor.clone().requires_grad_() for tensor in tensors]
        with forward_ad.dual_level():
            duals = [forward_ad.make_dual(*pair) for pair in zip(leaves, tangents(leaves), strict=True)]
            grads = torch.autograd.grad(scalar(function)(*duals), leaves)
            return [forward_ad.unpack_dual(grad).tangent for grad in grads]

    for of_operator, of_oracle in zip(directional(operator), directional(oracle), strict=True):
        assert_close("tangent of a gradient", of_operator, of_oracle, 1e-9, at_least=1e-3)


@pytest.mark.parametrize("name", ["gmm_nll", "gmm_responsibilities", "ssim as a map"])
@pytest.mark.parametrize(
    "hessian",
    [
        functional.hessian,
        partial(functional.hessian, vectorize=True),
        partial(functional.hessian, vectorize=True, outer_jacobian_strategy="forward-mode"),
        lambda function, tensor: torch.func.hessian(function)(tensor),
        lambda function, tensor: torch.func.linearize(torch.func.grad(function), tensor)[1](tensor),
        lambda function, tensor: functional.hvp(function, tensor, tensor)[1],
        lambda function, tensor: functional.vhp(function, tensor, tensor)[1],
        lambda function, tensor: torch.func.functionalize(torch.func.grad(function))(tensor),
    ],
    ids=["loop", "vectorised", "forward", "func", "linearize", "hvp", "vhp", "functionalize"],
)
def test_each_way_to_a_hessian_gives_that_of_the_reference(name, hessian):
    first, *others = OPERATORS[name][0](1)
    operator, oracle = (scalar(lambda tensor, f=f: f(tensor, *others)) for f in functions(name))
    assert_close("hessian", hessian(operator, first), hessian(oracle, first), 1e-8, at_least=1e-3)


def test_a_gradient_penalty_trains_a_network_as_the_reference_does():
    torch.manual_seed(0)
    net = torch.nn.Linear(4, 3 * 5, dtype=torch.float64)
    x, features = torch.randn(6, 1, dtype=torch.float64), torch.randn(6, 4, dtype=torch.float64)

    def grads_with(nll):
        leaf = features.clone().requires_grad_()
        logits, mu, scale = net(leaf).chunk(3, -1)
        loss = nll(x, logits, mu.unsqueeze(-1), scale.unsqueeze(-1))
        (of_features,) = torch.autograd.grad(loss, leaf, create_graph=True)
        return torch.autograd.grad(loss + of_features.square().sum(), list(net.parameters()))

    for grad, expected in zip(grads_with(vtadl_ext.gmm_nll), grads_with(reference.gmm_nll), strict=True):
        assert_close("gradient", grad, expected, 1e-10)


@pytest.mark.parametrize("name", OPERATORS)
def test_a_batch_of_gradients_is_part_of_the_graph(name):
    first, *others = OPERATORS[name][0](1)
    operator, oracle = functions(name)

    def penalty(function):
        leaf = first.clone().requires_grad_()
        jacobian = functional.jacobian(
            lambda tensor: function(tensor, *others), leaf, vectorize=True, create_graph=True
        )
        return torch.autograd.grad(jacobian.square().sum(), leaf)[0]

    assert_close("gradient", penalty(operator), penalty(oracle), 1e-9, at_least=1e-3)


@pytest.mark.parametrize("name", OPERATORS)
def test_a_gradient_penalty_goes_through_a_checkpoint(name):
    operator, oracle = functions(name)
    tensors = OPERATORS[name][0](2)

    def penalty(function):
        leaves = [tensor.clone().requires_grad_() for tensor in tensors]
        value = torch.utils.checkpoint.checkpoint(function, *leaves, use_reentrant=False)
        grads = torch.autograd.grad(value, leaves, upstream_for(value), create_graph=True)
        return torch.autograd.grad(dot(grads), leaves)

    for found, expected in zip(penalty(operator), penalty(oracle), strict=True):
        assert_close("gradient", found, expected, 1e-9, at_least=1e-3)


@pytest.mark.parametrize("name", OPERATORS)
def test_gradients_may_be_changed_in_place(name):
    operator, _ = functions(name)
    leaves = [tensor.requires_grad_() for tensor in OPERATORS[name][0](2)]
    value = operator(*leaves)
    upstream = upstream_for(value)
    grads = torch.autograd.grad(value, leaves, upstream, retain_graph=True)
    expected = [grad.clone() for grad in grads]
    for grad in grads:
        grad.zero_()
    for grad, right in zip(torch.autograd.grad(value, leaves, upstream), expected, strict=True):
        assert_close("gradient", grad, right, 1e-10, at_least=1e-3)


# ------------------------------------------------------------------------------------------------ left out


WEIGHTED = {
    name: OPERATORS[name]
    for name in ("gmm_nll", "gmm_nll of a shared mixture", "gmm_nll of each sample", "linear_gmm_nll")
}


@pytest.mark.parametrize("name", WEIGHTED)
@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: "-".join(transform.__name__ for transform in pair))
def test_samples_of_weight_0_stay_out_of_every_derivative(name, pair):
    tensors, (_, options) = OPERATORS[name][0](3), OPERATORS[name]
    function = name.split()[0]
    weight = torch.tensor([2.0, 0.0, 1.0], dtype=torch.float64)
    tensors[0][1] = torch.nan

    def of(library):
        return lambda *tensors: getattr(library, function)(*tensors, sample_weight=weight, **options)

    operator, oracle = of(vtadl_ext), of(reference)
    for transform in pair:
        operator, oracle = transform(operator), transform(oracle)
    found, expected = operator(*tensors), oracle(*tensors)
    assert expected.isfinite().all()
    assert_close("result", found, expected, 1e-8, at_least=1e-3)


@pytest.mark.parametrize("function", ["gmm_nll", "linear_gmm_nll"])
@pytest.mark.parametrize("library", [vtadl_ext, reference], ids=["kernels", "reference"])
def test_each_sample_has_gradients_of_its_own_under_its_weight(library, function):
    name = "gmm_nll of a shared mixture" if function == "gmm_nll" else function
    x, *others = OPERATORS[name][0](3)
    x[1] = torch.nan
    batched = (None,) * 3 if function == "gmm_nll" else (0, None, None)
    options = OPERATORS[name][1]

    def loss(mu, x, weight, *others):
        tensors = (x, others[0], mu, others[1]) if function == "gmm_nll" else (x, *others[:1], mu, others[1])
        return getattr(library, function)(*tensors, sample_weight=weight, reduction="sum", **options)

    first, mu, last = others
    grads = torch.func.vmap(torch.func.grad(loss), (None, 0, 0, batched[0], batched[2]))(
        mu, x, torch.tensor([1.0, 0.0, 1.0], dtype=x.dtype), first, last
    )
    assert grads.isfinite().all()
    assert not grads[1].any()
    assert grads[0].any()


# --------------------------------------------------------------------------------------------------- tracing


COMPILED = ["gmm_nll", "gmm_responsibilities", "linear_gmm_nll", "ssim as a map"]


@pytest.mark.parametrize("name", COMPILED)
@pytest.mark.parametrize("transforms", [(vmap,), (grad,), (grad, vmap)], ids=["vmap", "grad", "vmap-grad"])
def test_functional_transformations_compile_whole(name, transforms):
    torch.compiler.reset()
    operator, oracle = functions(name)
    tensors = OPERATORS[name][0](2)
    for transform in transforms:
        operator, oracle = transform(operator), transform(oracle)
    compiled = torch.compile(operator, backend="aot_eager", fullgraph=True)
    assert_close("result", compiled(*tensors), oracle(*tensors), 1e-9)


@pytest.mark.parametrize("name", ["gmm_nll", "linear_gmm_nll", "ssim"])
@pytest.mark.parametrize("transforms", [(jvp,), (grad, grad)], ids=["jvp", "grad-grad"])
def test_other_functional_transformations_compile(name, transforms):
    torch.compiler.reset()
    operator, oracle = functions(name)
    tensors = OPERATORS[name][0](2)
    for transform in transforms:
        operator, oracle = transform(operator), transform(oracle)
    assert_close("result", torch.compile(operator, backend="aot_eager")(*tensors), oracle(*tensors), 1e-9)


@pytest.mark.parametrize("name", ["gmm_nll", "ssim"])
def test_compiled_functions_can_be_transformed(name):
    torch.compiler.reset()
    operator, oracle = functions(name)
    tensors = OPERATORS[name][0](2)
    compiled = torch.compile(operator, backend="aot_eager")
    for transform in (grad, jvp, vmap):
        assert_close("result", transform(compiled)(*tensors), transform(oracle)(*tensors), 1e-9)


def larger(name: str, count: int) -> list[Tensor]:
    """A number of samples, or of images of another size, with even sides in the place of odd ones."""
    tensors = OPERATORS[name][0](count)
    if OPERATORS[name][0] is images:
        wide = [torch.cat([tensor, tensor.flip(-1)], -1) for tensor in tensors]
        return [torch.cat([tensor, tensor.flip(-2)], -2)[..., 1:] for tensor in wide]
    return tensors


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("requires_grad", [False, True], ids=["plain", "leaves"])
def test_a_traced_function_serves_other_sizes(name, requires_grad):
    operator, oracle = functions(name)
    tensors = [tensor.requires_grad_(requires_grad) for tensor in larger(name, 2)]
    traced = torch.jit.trace(operator, tuple(tensors), check_trace=False)
    others = [tensor.requires_grad_(requires_grad) for tensor in OPERATORS[name][0](5)]
    value, expected = traced(*others), oracle(*others)
    assert_close("value", value, expected, 1e-10)
    if requires_grad:
        grads = torch.autograd.grad(value, others, upstream_for(value))
        for grad, right in zip(
            grads, torch.autograd.grad(expected, others, upstream_for(value)), strict=True
        ):
            assert_close("gradient", grad, right, 1e-9)


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
def test_a_graph_of_make_fx_serves_other_sizes(name, mode):
    operator, oracle = functions(name)
    graph = make_fx(operator, tracing_mode=mode)(*larger(name, 2))
    others = OPERATORS[name][0](5)
    assert_close("value", graph(*others), oracle(*others), 1e-10)


@pytest.mark.parametrize("name", OPERATORS)
def test_a_symbolic_graph_of_gradients_serves_other_sizes(name):
    operator, oracle = functions(name)
    graph = make_fx(grad(operator), tracing_mode="symbolic")(*larger(name, 2))
    others = OPERATORS[name][0](5)
    assert_close("gradient", graph(*others), grad(oracle)(*others), 1e-9)


# ----------------------------------------------------------------------------------------------------- FLOPs


@settings(max_examples=10, deadline=None, derandomize=True)
@given(
    samples=st.integers(0, 9),
    reduction=st.sampled_from(["mean", "none"]),
    needs=st.tuples(*[st.booleans()] * 3),
    budget=st.sampled_from([None, 100]),
)
def test_the_products_of_a_fused_head_are_counted(samples, reduction, needs, budget):
    layer = MixtureHead(7, 3, 4, memory_budget=budget)
    layer.weight.requires_grad_(needs[0])
    x, h = torch.randn(samples, 3).requires_grad_(needs[1]), torch.randn(samples, 7).requires_grad_(needs[2])

    def flops(nll):
        with FlopCounterMode(display=False) as counter:
            value = nll().sum()
            if value.requires_grad:
                value.backward()
        return counter.get_total_flops()

    product = 2 * samples * 7 * (4 + 12 + 12)
    again = product if reduction == "none" and (any(needs) or layer.bias.requires_grad) else 0
    fused = flops(lambda: layer.nll(x, h, reduction=reduction))
    assert fused == product * (1 + needs[0] + needs[2]) + again
