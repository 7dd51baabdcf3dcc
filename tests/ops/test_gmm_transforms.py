"""`gmm_nll` under PyTorch's transformations: autograd, vmap, compilation, export, autocast, fake tensors."""

import itertools
import math
from functools import partial

import pytest
import torch
import torch.utils.checkpoint
from torch.func import grad, jacrev, vmap

from vtadl_ext import GMMNLLLoss, gmm_log_prob, gmm_nll, gmm_responsibilities

from .comparison import (
    DTYPES,
    assert_close,
    assert_meta_results,
    deterministic_algorithms,
    dtype_id,
    value_and_grads,
)
from .mixtures import (
    NAMES,
    SCALE_PARAMS,
    by_position,
    check_gmm,
    evaluate,
    per_sample,
    per_sample_tril,
    random_mixture,
    shared,
    shared_tril,
)

TRIL_NAMES = ("x", "logits", "mu", "scale_tril")
nll = partial(gmm_nll, reduction="none")
tril_nll = partial(by_position(gmm_nll, TRIL_NAMES), reduction="none")
LEADING = pytest.mark.parametrize("tensors", [per_sample, shared], ids=["per_sample", "shared"])
ALL = pytest.mark.parametrize(
    "tensors",
    [per_sample, shared, per_sample_tril, shared_tril],
    ids=["per_sample", "shared", "per_sample_tril", "shared_tril"],
)
FUNCTIONS = pytest.mark.parametrize("function", [gmm_nll, nll, gmm_log_prob, gmm_responsibilities])


def loop(function, in_dims, *tensors):
    """The result that vmap promises, from one call after another."""
    size = next(tensor.shape[dim] for tensor, dim in zip(tensors, in_dims, strict=True) if dim is not None)
    calls = [
        function(
            *(
                tensor if dim is None else tensor.select(dim, i)
                for tensor, dim in zip(tensors, in_dims, strict=True)
            )
        )
        for i in range(size)
    ]
    if isinstance(calls[0], tuple):
        return tuple(torch.stack(results) for results in zip(*calls, strict=True))
    return torch.stack(calls)


@pytest.mark.parametrize("mixture", ["logsumexp", "weighted"])
@pytest.mark.parametrize("scale_param", SCALE_PARAMS)
def test_gradients_are_those_of_finite_differences(device, scale_param, mixture):
    inputs = per_sample(2, 3, 2, scale_param=scale_param, dtype=torch.float64, device=device)
    leaves = [tensor.requires_grad_() for tensor in inputs.values()]
    function = partial(nll, scale_param=scale_param, mixture=mixture, min_std=0.9)
    assert torch.autograd.gradcheck(function, leaves)


@pytest.mark.parametrize(
    "shapes",
    [
        [(2, 1, 2), (3, 3), (2, 1, 3, 1), (3, 1)],
        [(4, 2), (4, 3), (4, 3, 2), (1, 2)],
        [(4, 2), (4, 3), (1, 2), (1, 1)],
    ],
    ids=["rows", "one scale", "one mean and one scale"],
)
@pytest.mark.parametrize("function", [gmm_nll, gmm_responsibilities])
def test_gradients_of_broadcast_inputs_are_those_of_finite_differences(device, shapes, function):
    leaves = [
        tensor.requires_grad_()
        for tensor in random_mixture(*shapes, dtype=torch.float64, device=device).values()
    ]
    assert torch.autograd.gradcheck(function, leaves)


@pytest.mark.parametrize("mixture", ["logsumexp", "weighted"])
@pytest.mark.parametrize("tensors", [per_sample_tril, shared_tril], ids=["per_sample", "shared"])
def test_gradients_of_full_covariances_are_those_of_finite_differences(device, tensors, mixture):
    inputs = tensors(2, 3, 3, dtype=torch.float64, device=device)
    leaves = [tensor.requires_grad_() for tensor in inputs.values()]
    assert torch.autograd.gradcheck(partial(tril_nll, mixture=mixture), leaves)


@ALL
def test_gradients_of_responsibilities_are_those_of_finite_differences(device, tensors):
    inputs = tensors(2, 3, 2, dtype=torch.float64, device=device)
    leaves = [tensor.requires_grad_() for tensor in inputs.values()]
    assert torch.autograd.gradcheck(by_position(gmm_responsibilities, list(inputs)), leaves)


@pytest.mark.parametrize(
    ("tensors", "mixture", "needs"),
    [
        (per_sample, 0, (True, True, True, True)),
        (shared, 1, (True, False, True, False)),
        (per_sample, 2, (True, False, True, True)),
        (per_sample_tril, 0, (False, True, False, True)),
        (shared_tril, 2, (False, False, True, True)),
    ],
    ids=["per_sample-logsumexp", "shared-weighted", "per_sample-none", "tril-logsumexp", "shared_tril-none"],
)
def test_the_raw_operators_pass_pytorchs_checks(compiled_device, tensors, needs, mixture):
    inputs = tensors(3, 2, 4, device=compiled_device)
    options = (5 if "scale_tril" in inputs else 0, 0.1, mixture)
    inputs = inputs.values()
    ops = torch.ops.vtadl_ext
    torch.library.opcheck(ops.gmm_forward, (*inputs, *options))
    results = ops.gmm_forward(*inputs, *options)
    grad = torch.ones_like(results[1 if mixture == 2 else 0])
    torch.library.opcheck(ops.gmm_backward, (grad, *results, *inputs, *options, *needs))
    if mixture != 2:
        torch.library.opcheck(ops.gmm_forward_backward, (-0.5, *inputs, *options, *needs))


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
def test_the_raw_scaling_operator_passes_pytorchs_checks(compiled_device, dtype):
    tensor = torch.randn(7, 3, dtype=dtype, device=compiled_device)
    factor = torch.tensor(-2.0, device=compiled_device, dtype=torch.promote_types(dtype, torch.float32))
    torch.library.opcheck(torch.ops.vtadl_ext.scale_, (tensor.clone(), factor))
    for layout in (
        tensor,
        tensor.T.clone().T,
        tensor.view(1, 7, 3, 1).clone(memory_format=torch.channels_last),
    ):
        expected = -2 * layout
        torch.ops.vtadl_ext.scale_(layout, factor)
        assert torch.equal(layout, expected)


@pytest.mark.parametrize("changed", [torch.ones(2), torch.tensor(2.0, dtype=torch.float64)], ids=str)
def test_the_raw_scaling_operator_takes_one_factor(changed):
    with pytest.raises(RuntimeError, match="one number of the accumulation type"):
        torch.ops.vtadl_ext.scale_(torch.ones(3), changed)
    with pytest.raises(RuntimeError, match="must be dense"):
        torch.ops.vtadl_ext.scale_(torch.ones(3, 2)[:, :1], torch.tensor(2.0))


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compilation_changes_nothing_forward_and_backward(compiled_device, backend):
    torch.compiler.reset()

    def loss(x, logits, mu, scale):
        return gmm_nll(2 * x, logits, mu, scale.tanh(), min_std=0.1) + mu.square().mean()

    compiled = torch.compile(loss, fullgraph=True, backend=backend)
    inputs = shared(6, 3, 4, device=compiled_device).values()
    value, grads = value_and_grads(compiled, inputs)
    expected, expected_grads = value_and_grads(loss, inputs)
    assert_close("value", value, expected, 1e-6)
    for name, compiled_grad, expected_grad in zip(NAMES, grads, expected_grads, strict=True):
        assert_close(f"gradient of {name}", compiled_grad, expected_grad, 1e-5)


@FUNCTIONS
@ALL
def test_every_function_compiles_whole(compiled_device, function, tensors):
    torch.compiler.reset()
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    inputs = tensors(6, 3, 4, device=compiled_device)
    value, grads = evaluate(inputs, lambda **inputs: compiled(**inputs))
    expected, expected_grads = evaluate(inputs, lambda **inputs: function(**inputs))
    assert_close("value", value, expected, 1e-6)
    for name, grad_of_compiled in grads.items():
        assert_close(f"gradient of {name}", grad_of_compiled, expected_grads[name], 1e-5)


@FUNCTIONS
@pytest.mark.parametrize("context", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_every_function_compiles_whole_where_nobody_needs_gradients(compiled_device, function, context):
    torch.compiler.reset()
    inputs = shared(6, 3, 4, device=compiled_device)
    with context():
        value = torch.compile(function, fullgraph=True, backend="aot_eager")(**inputs)
    assert_close("value", value, function(**inputs), 1e-6)


def test_compiled_code_serves_other_numbers_of_samples(compiled_device):
    torch.compiler.reset()
    compiled = torch.compile(nll, fullgraph=True, backend="aot_eager", dynamic=True)
    for samples in (3, 8, 21):
        inputs = shared(samples, 3, 4, device=compiled_device).values()
        value, grads = value_and_grads(compiled, inputs)
        expected, expected_grads = value_and_grads(nll, inputs)
        assert torch.equal(value, expected)
        assert all(torch.equal(a, b) for a, b in zip(grads, expected_grads, strict=True))


def test_compiled_code_serves_other_floors(compiled_device):
    torch.compiler.reset()
    compiled = torch.compile(
        lambda *args, floor: nll(*args, min_std=floor), fullgraph=True, backend="aot_eager"
    )
    inputs = shared(6, 3, 4, device=compiled_device).values()
    for floor in (0.8, 0.9, 1.0, 1.1):
        value, grads = value_and_grads(partial(compiled, floor=floor), inputs)
        expected, expected_grads = value_and_grads(partial(nll, min_std=floor), inputs)
        assert torch.equal(value, expected)
        assert all(torch.equal(a, b) for a, b in zip(grads, expected_grads, strict=True))


def test_an_exported_program_serves_other_numbers_of_samples(compiled_device):
    class Loss(torch.nn.Module):
        def forward(self, x, logits, mu, scale):
            return nll(x, logits, mu, scale, scale_param="softplus")

    samples = torch.export.Dim("samples", min=2)
    inputs = tuple(per_sample(4, 3, 5, device=compiled_device).values())
    program = torch.export.export(Loss(), inputs, dynamic_shapes=({0: samples},) * 4)
    for size in (4, 9):
        inputs = tuple(per_sample(size, 3, 5, device=compiled_device).values())
        assert torch.equal(program.module()(*inputs), Loss()(*inputs))


def test_mixtures_of_positions_export_with_any_number_of_images(compiled_device):
    class Loss(torch.nn.Module):
        def forward(self, x, logits, mu, scale):
            return nll(x, logits, mu, scale)

    def inputs_of(images):
        shapes = ((images, 5, 2), (images, 5, 3), (5, 3, 2), (5, 3, 2))
        return tuple(torch.randn(shape, device=compiled_device) for shape in shapes)

    images = {0: torch.export.Dim("images", min=2)}
    program = torch.export.export(Loss(), inputs_of(4), dynamic_shapes=(images, images, None, None))
    for count in (3, 5):
        inputs = inputs_of(count)
        assert torch.equal(program.module()(*inputs), Loss()(*inputs))


@pytest.mark.parametrize("tensors", [per_sample, per_sample_tril], ids=["diagonal", "tril"])
def test_the_module_exports_with_any_number_of_samples(compiled_device, tensors):
    class Loss(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.loss = GMMNLLLoss()

        def forward(self, inputs):
            return self.loss(**inputs), gmm_responsibilities(**inputs)

    inputs = tensors(4, 3, 5, device=compiled_device)
    samples = torch.export.Dim("samples", min=2)
    shapes = ({name: {0: samples} for name in inputs},)
    program = torch.export.export(Loss(), (inputs,), dynamic_shapes=shapes)
    for size in (4, 9):
        inputs = tensors(size, 3, 5, device=compiled_device)
        for exported, eager in zip(program.module()(inputs), Loss()(inputs), strict=True):
            assert torch.equal(exported, eager)


# Batch dimensions of x, logits, mu and scale.
IN_DIMS = {
    "samples": (0, None, None, None),
    "parameters": (None, 0, 0, 0),
    "everything": (0, 0, 0, 0),
    "means alone": (None, None, 0, None),
    "other dimensions": (1, 1, 2, -1),
    "some dimensions": (1, None, -1, None),
}
VMAPS = pytest.mark.parametrize("in_dims", IN_DIMS.values(), ids=[name.replace(" ", "_") for name in IN_DIMS])


def batched(in_dims, leading, device, scale=(4, 1)):
    """Arguments with a batch of 3 at these dimensions, and leading dimensions besides."""
    shapes = ((*leading, 5), (4,), (*leading, 4, 5), scale)
    *shapes, scale = (
        shape if dim is None else (3, *shape) for shape, dim in zip(shapes, in_dims, strict=True)
    )
    name = "scale_tril" if scale[-2:] == (5, 5) else "scale"
    inputs = random_mixture(*shapes, **{name: scale}, device=device).values()
    return [
        tensor if dim is None else tensor.movedim(0, dim) for tensor, dim in zip(inputs, in_dims, strict=True)
    ]


@VMAPS
@pytest.mark.parametrize("leading", [(), (2,), (2, 1)], ids=str)
def test_vmap_is_a_loop(compiled_device, in_dims, leading):
    inputs = batched(in_dims, leading, compiled_device)
    assert_close("value", vmap(nll, in_dims)(*inputs), loop(nll, in_dims, *inputs), 1e-6)


@VMAPS
@torch.no_grad()
def test_vmap_without_gradients_is_a_loop(compiled_device, in_dims):
    inputs = batched(in_dims, (2,), compiled_device)
    assert_close("value", vmap(nll, in_dims)(*inputs), loop(nll, in_dims, *inputs), 1e-6)


@VMAPS
@pytest.mark.parametrize("leading", [(), (2,)], ids=str)
@pytest.mark.parametrize("argnums", [(0, 1, 2, 3), (0,), (2, 3)], ids=str)
def test_vmap_of_gradients_is_a_loop_over_gradients(compiled_device, in_dims, leading, argnums):
    inputs = batched(in_dims, leading, compiled_device)
    function = grad(partial(gmm_nll, min_std=0.9), argnums)
    for name, of_batch, of_loop in zip(
        argnums, vmap(function, in_dims)(*inputs), loop(function, in_dims, *inputs), strict=True
    ):
        assert_close(f"gradient of {NAMES[name]}", of_batch, of_loop, 1e-5, at_least=0.1)


@VMAPS
@pytest.mark.parametrize("leading", [(), (2,)], ids=str)
@pytest.mark.parametrize("scale", [(4, 5, 5), (1, 5, 5)], ids=str)
def test_vmap_takes_full_covariances(compiled_device, in_dims, leading, scale):
    if in_dims[3] == -1:
        in_dims = (*in_dims[:3], 1)
    inputs = batched(in_dims, leading, compiled_device, scale)
    assert_close("value", vmap(tril_nll, in_dims)(*inputs), loop(tril_nll, in_dims, *inputs), 1e-6)
    function = grad(partial(tril_nll, reduction="mean"), (0, 1, 2, 3))
    for name, of_batch, of_loop in zip(
        TRIL_NAMES, vmap(function, in_dims)(*inputs), loop(function, in_dims, *inputs), strict=True
    ):
        assert_close(f"gradient of {name}", of_batch, of_loop, 1e-5, at_least=0.1)


@VMAPS
@pytest.mark.parametrize("scale", [(4, 5), (1, 5), (1, 1)], ids=str)
def test_vmap_takes_responsibilities(compiled_device, in_dims, scale):
    inputs = batched(in_dims, (2,), compiled_device, scale)
    value = vmap(gmm_responsibilities, in_dims)(*inputs)
    assert_close("value", value, loop(gmm_responsibilities, in_dims, *inputs), 1e-6)
    function = grad(lambda *inputs: gmm_responsibilities(*inputs)[..., 0].sum(), (0, 1, 2, 3))
    for name, of_batch, of_loop in zip(
        NAMES, vmap(function, in_dims)(*inputs), loop(function, in_dims, *inputs), strict=True
    ):
        assert_close(f"gradient of {name}", of_batch, of_loop, 1e-5, at_least=0.1)


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("how", ["is_grads_batched", "vmap"])
def test_a_batch_of_upstream_gradients_is_a_loop(compiled_device, reduction, how):
    inputs = [tensor.requires_grad_() for tensor in shared(5, 3, 4, device=compiled_device).values()]
    value = gmm_nll(*inputs, reduction=reduction)
    upstream = torch.randn(2, *value.shape, device=compiled_device)
    expected = [torch.autograd.grad(value, inputs, each, retain_graph=True) for each in upstream]
    value = gmm_nll(*inputs, reduction=reduction)
    if how == "vmap":
        grads = vmap(lambda each: torch.autograd.grad(value, inputs, each))(upstream)
    else:
        grads = torch.autograd.grad(value, inputs, upstream, is_grads_batched=True)
    for name, batch, *each in zip(NAMES, grads, *expected, strict=True):
        assert_close(f"gradient of {name}", batch, torch.stack(each), 1e-6, at_least=0.1)


def test_vmap_nests(compiled_device):
    inputs = random_mixture((2, 5), (3, 4), (3, 4, 5), (3, 4, 5), device=compiled_device).values()
    function = vmap(vmap(nll, (None, 0, 0, 0)), (0, None, None, None))
    x, *parameters = inputs
    expected = nll(x.unsqueeze(1), *parameters)
    assert_close("value", function(*inputs), expected, 1e-6)


def test_gradients_flow_through_vmap(compiled_device):
    inputs = shared(6, 3, 4, device=compiled_device).values()
    value, grads = value_and_grads(vmap(nll, (0, None, None, None)), inputs)
    expected, expected_grads = value_and_grads(nll, inputs)
    assert_close("value", value, expected, 1e-6)
    for name, of_vmap, expected_grad in zip(NAMES, grads, expected_grads, strict=True):
        assert_close(f"gradient of {name}", of_vmap, expected_grad, 1e-5)


def test_functional_gradients_are_those_of_autograd(device):
    inputs = list(per_sample(5, 3, 4, device=device).values())
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    expected = torch.autograd.grad(gmm_nll(*leaves), leaves)
    for functional, autograd in zip(grad(gmm_nll, (0, 1, 2, 3))(*inputs), expected, strict=True):
        assert torch.equal(functional, autograd)


def test_jacobians_hold_the_gradient_of_each_sample(compiled_device):
    inputs = list(shared(5, 3, 4, device=compiled_device).values())
    jacobians = jacrev(nll, (0, 1, 2, 3))(*inputs)
    expected = loop(lambda x: grad(nll, (0, 1, 2, 3))(x, *inputs[1:]), (0,), inputs[0])
    of_x = torch.zeros(5, 5, 4, device=compiled_device)
    of_x[range(5), range(5)] = expected[0]
    for name, jacobian, gradients in zip(NAMES, jacobians, (of_x, *expected[1:]), strict=True):
        assert_close(f"jacobian of {name}", jacobian, gradients, 1e-5)


def test_jacobians_of_responsibilities_sum_to_0(compiled_device):
    inputs = list(shared(5, 3, 4, device=compiled_device).values())
    for name, jacobian in zip(NAMES, jacrev(gmm_responsibilities, (0, 1, 2, 3))(*inputs), strict=True):
        assert jacobian.shape[:2] == (5, 3)
        assert jacobian.any(), name
        assert_close(f"jacobian of {name}", jacobian.sum(1), torch.zeros_like(jacobian[:, 0]), 1e-6, 1.0)


@ALL
def test_functional_gradients_agree_with_a_reduced_loss(device, tensors):
    inputs = tensors(5, 3, 4, device=device)
    function = by_position(gmm_nll, list(inputs))
    functional = grad(function, (0, 1, 2, 3))(*inputs.values())
    _, (*eager,) = value_and_grads(function, list(inputs.values()))
    for name, one, other in zip(inputs, functional, eager, strict=True):
        assert_close(f"gradient of {name}", one * math.cos(1), other, 1e-6)  # the upstream gradient


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpointing_changes_nothing(device, use_reentrant):
    inputs = list(shared(5, 3, 4, device=device).values())
    value, grads = value_and_grads(gmm_nll, inputs)
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    again = torch.utils.checkpoint.checkpoint(gmm_nll, *leaves, use_reentrant=use_reentrant)
    (again * math.cos(1)).backward()
    assert torch.equal(again, value)
    for leaf, expected in zip(leaves, grads, strict=True):
        assert_close("gradient", leaf.grad, expected, 1e-6)


@ALL
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_cuda_graphs_replay_on_new_numbers(tensors, reduction):
    if not torch.cuda.is_available():
        pytest.skip("this machine has no GPU")
    inputs = tensors(64, 5, 4, device="cuda")
    leaves = {name: tensor.requires_grad_() for name, tensor in inputs.items()}

    def step():
        value = gmm_nll(**leaves, reduction=reduction)
        return value, *torch.autograd.grad(value.sum(), leaves.values())

    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):  # a synchronisation or a host read would fail here
        results = step()
    with torch.no_grad():
        for name, tensor in tensors(64, 5, 4, device="cuda", seed=1).items():
            leaves[name].copy_(tensor)
    for _ in range(2):
        graph.replay()
        for replayed, expected in zip(results, step(), strict=True):
            assert torch.equal(replayed, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=dtype_id)
@pytest.mark.parametrize("halved", [("mu", "scale"), ("x",), NAMES], ids="-".join)
def test_autocast_widens_mixed_dtypes(device, halved, dtype):
    inputs = per_sample(5, 3, 4, device=device)
    mixed = {name: tensor.to(dtype) if name in halved else tensor for name, tensor in inputs.items()}
    with torch.autocast(device.type, dtype):
        value, grads = value_and_grads(nll, list(mixed.values()))
    expected, expected_grads = value_and_grads(nll, [tensor.float() for tensor in mixed.values()])
    assert value.dtype == torch.float32
    assert_close("value", value, expected, 1e-6)
    for name, half_grad, expected_grad in zip(NAMES, grads, expected_grads, strict=True):
        assert half_grad.dtype == mixed[name].dtype
        assert_close(f"gradient of {name}", half_grad, expected_grad.to(half_grad.dtype), 5e-3)


def test_a_linear_head_under_autocast_trains_the_mixture(device):
    head = torch.nn.Linear(6, 3 * 8).to(device)
    x, features = torch.randn(5, 4, device=device), torch.randn(5, 6, device=device)
    with torch.autocast(device.type, torch.bfloat16):
        mu, scale = head(features).view(5, 3, 8).chunk(2, -1)
        assert mu.dtype == torch.bfloat16
        loss = gmm_nll(x, torch.zeros(3, device=device), mu, scale)
    loss.backward()
    assert loss.dtype == torch.float32
    assert head.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=dtype_id)
def test_autocast_widens_the_factors_of_covariances(device, dtype):
    inputs = per_sample_tril(5, 3, 4, device=device)
    mixed = inputs | {name: inputs[name].to(dtype) for name in ("mu", "scale_tril")}
    exact = {name: tensor.float() for name, tensor in mixed.items()}
    for function in (gmm_nll, gmm_responsibilities):
        with torch.autocast(device.type, dtype):
            value, grads = evaluate(mixed, function)
        expected, expected_grads = evaluate(exact, function)
        assert value.dtype == torch.float32
        assert_close("value", value, expected, 1e-6)
        for name, half_grad in grads.items():
            assert half_grad.dtype == mixed[name].dtype
            assert_close(f"gradient of {name}", half_grad, expected_grads[name].to(half_grad.dtype), 5e-3)


@FUNCTIONS
@ALL
def test_meta_tensors_have_the_shapes_of_real_ones_under_every_function(tensors, function):
    value, grads = evaluate(tensors(5, 3, 4), lambda **inputs: function(**inputs))
    meta_value, meta_grads = evaluate(tensors(5, 3, 4, device="meta"), lambda **inputs: function(**inputs))
    assert meta_value.is_meta
    assert (meta_value.shape, meta_value.dtype) == (value.shape, value.dtype)
    for name, grad_of_real in grads.items():
        assert meta_grads[name].shape == grad_of_real.shape


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
def test_meta_tensors_have_the_shapes_and_dtypes_of_real_ones(dtype, reduction):
    shapes = [(2, 3, 5), (3, 4), (2, 1, 4, 5), (4, 1)]
    real = random_mixture(*shapes, dtype=dtype).values()
    meta = random_mixture(*shapes, dtype=dtype, device="meta").values()
    function = partial(gmm_nll, reduction=reduction)
    assert_meta_results(function, real, meta)


def test_deterministic_mode_is_served(device):
    with deterministic_algorithms():
        check_gmm(shared(6, 3, 4, device=device))


def test_inference_mode_is_served(device):
    inputs = shared(6, 3, 4, device=device).values()
    with torch.inference_mode():
        value = gmm_nll(*inputs)
    assert torch.equal(value, gmm_nll(*inputs))


@pytest.mark.parametrize(
    ("index", "shape", "message"),
    [
        (0, (), "too few dimensions"),
        (2, (4,), "too few dimensions"),
        (2, (2, 4), "differ in their number of components"),
        (3, (3, 2), "as many features as x, or one"),
        (1, (2, 3), "do not broadcast"),
        (1, (0,), "at least one component"),
    ],
    ids=str,
)
def test_the_raw_operators_refuse_shapes_that_they_would_read_beyond(index, shape, message):
    inputs = list(shared(5, 3, 4).values())
    inputs[index] = torch.zeros(shape)
    with pytest.raises(RuntimeError, match=message):
        torch.ops.vtadl_ext.gmm_forward(*inputs, 0, 0.0, 0)


def test_the_raw_backward_operator_refuses_results_of_another_forward_pass():
    inputs = list(shared(5, 3, 4).values())
    results = torch.ops.vtadl_ext.gmm_forward(*inputs, 0, 0.0, 0)
    tensors = [torch.ones(5), *results]
    for i, wrong in itertools.product(range(3), (torch.ones(4), torch.ones(5, 3, 4), tensors[0].double())):
        changed = [wrong if j == i else tensor for j, tensor in enumerate(tensors)]
        with pytest.raises(RuntimeError, match="forward pass has changed"):
            torch.ops.vtadl_ext.gmm_backward(*changed, *inputs, 0, 0.0, 0, *[True] * 4)
