"""`linear_gmm_nll` under autograd, compilation, autocast, vmap and data parallelism."""

import math
from functools import partial

import pytest
import torch
import torch.utils.checkpoint
from torch.func import grad, vmap
from torch.nn.parallel import DistributedDataParallel

from vtadl_ext import MixtureHead, _linear_gmm_ops, gmm_nll, linear_gmm_nll

from .comparison import DTYPES, assert_close, dtype_id, upstream_for, value_and_grads
from .heads import SCALES, by_position, random_head

REDUCTIONS = pytest.mark.parametrize("reduction", ["mean", "none"])
ALL_SCALES = pytest.mark.parametrize("scale", SCALES)
BUDGET = 1000  # a few rows


def assert_all_close(results, expected, tolerance=1e-5):
    for result, wanted in zip(results, expected, strict=True):
        assert_close("result", result, wanted, tolerance, at_least=1e-3)


@ALL_SCALES
def test_the_operators_pass_pytorchs_checks(compiled_device, scale):
    tensors, _ = random_head(9, 3, 5, scale=scale, device=compiled_device)
    options = (3, SCALES[scale][1], torch.float32, BUDGET, 0, 0.1, 0)
    torch.library.opcheck(_linear_gmm_ops.linear_gmm_forward, (*tensors.values(), *options))
    upstream = torch.ones(9, device=compiled_device)
    for needs in ((True,) * 4, (False, True, False, False)):
        arguments = (upstream, *tensors.values(), *options, *needs)
        torch.library.opcheck(_linear_gmm_ops.linear_gmm_forward_backward, arguments)


@REDUCTIONS
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
def test_it_compiles_as_one_graph(compiled_device, reduction, bias):
    tensors, options = random_head(9, 3, 5, device=compiled_device, bias=bias)

    def function(x, h, *parameters):
        return linear_gmm_nll(
            2 * x, h.tanh(), *parameters, **options, reduction=reduction, memory_budget=BUDGET
        )

    inputs = list(tensors.values())
    value, grads = value_and_grads(torch.compile(function, fullgraph=True), inputs)
    expected, expected_grads = value_and_grads(function, inputs)
    assert_all_close((value, *grads), (expected, *expected_grads))


def test_the_compiled_graph_takes_any_number_of_samples(compiled_device):
    function = torch.compile(partial(linear_gmm_nll, num_components=3), fullgraph=True, dynamic=True)
    for samples in (2, 9, 130):
        tensors, _ = random_head(samples, 3, 5, device=compiled_device)
        expected = linear_gmm_nll(**tensors, num_components=3)
        assert_close("value", function(*tensors.values()), expected, 1e-6)


def test_a_functional_gradient_never_loses_itself_in_a_compiled_graph(compiled_device):
    tensors, options = random_head(9, 3, 5, device=compiled_device)
    function = grad(by_position(**options), (0, 1, 2, 3))
    expected = function(*tensors.values())
    assert_all_close(torch.compile(function)(*tensors.values()), expected)
    torch.compiler.reset()
    assert_all_close(torch.compile(function, fullgraph=True)(*tensors.values()), expected)


def test_it_can_be_exported(compiled_device):
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.head = MixtureHead(7, 5, 3)

        def forward(self, x, h):
            return self.head.log_prob(x, h)

    model = Model().to(compiled_device)
    inputs = (torch.randn(9, 5, device=compiled_device), torch.randn(9, 7, device=compiled_device))
    assert torch.equal(torch.export.export(model, inputs).module()(*inputs), model(*inputs))


@REDUCTIONS
@ALL_SCALES
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=dtype_id)
def test_autocast_multiplies_in_half_precision_as_a_linear_layer_does(device, dtype, scale, reduction):
    tensors, options = random_head(20, 3, 5, scale=scale, device=device)
    rows = len(tensors["weight"]) - 18

    def unchunked(x, h, weight, bias):
        logits, mu, scale = torch.nn.functional.linear(h, weight, bias).split((3, 15, rows), -1)
        scale = scale.unflatten(-1, (1 if options["shared_scale"] else 3, -1))
        return gmm_nll(x, logits, mu.unflatten(-1, (3, 5)), scale, reduction=reduction)

    inputs = list(tensors.values())
    with torch.autocast(device.type, dtype):
        function = by_position(**options, reduction=reduction, memory_budget=BUDGET)
        value, grads = value_and_grads(function, inputs)
        expected, expected_grads = value_and_grads(unchunked, inputs)
    assert value.dtype == torch.float32
    assert all(grad.dtype == torch.float32 for grad in grads)
    assert_all_close((value, *grads), (expected, *expected_grads), 2e-2)
    exact, _ = value_and_grads(unchunked, inputs)
    assert not torch.equal(value, exact)


@pytest.mark.parametrize("halved", ["x", "h", "weight"])
def test_autocast_takes_mixed_dtypes(device, halved):
    tensors, options = random_head(20, 3, 5, device=device)
    expected, _ = value_and_grads(by_position(**options), list(tensors.values()))
    tensors[halved] = tensors[halved].bfloat16()
    with torch.autocast(device.type, torch.bfloat16):
        value, grads = value_and_grads(by_position(**options), list(tensors.values()))
    assert_close("value", value, expected, 2e-2)
    assert [grad.dtype for grad in grads] == [tensor.dtype for tensor in tensors.values()]


def test_autocast_leaves_float64_as_it_is(device):
    tensors, options = random_head(20, 3, 5, dtype=torch.float64, device=device)
    with torch.autocast(device.type, torch.bfloat16):
        value = linear_gmm_nll(**tensors, **options)
    assert torch.equal(value, linear_gmm_nll(**tensors, **options))


def test_gradients_in_float16_survive_by_a_loss_scaler(device):
    tensors, options = random_head(64, 3, 5, dtype=torch.float16, device=device)
    leaves = [tensor.requires_grad_() for tensor in tensors.values()]
    loss = 1e-7 * linear_gmm_nll(*leaves, **options)  # its gradients are below the smallest float16
    grads = torch.autograd.grad(loss * 2.0**20, leaves)
    exact = [tensor.detach().float().requires_grad_() for tensor in leaves]
    expected = torch.autograd.grad(1e-7 * 2.0**20 * linear_gmm_nll(*exact, **options), exact)
    assert_all_close(grads, expected, 1e-2)


@REDUCTIONS
def test_the_graph_can_be_used_twice(device, reduction):
    tensors, options = random_head(9, 3, 5, device=device)
    leaves = [tensor.requires_grad_() for tensor in tensors.values()]
    value = linear_gmm_nll(*leaves, **options, reduction=reduction, memory_budget=BUDGET)
    upstream = upstream_for(value)
    first = torch.autograd.grad(value, leaves, upstream, retain_graph=True)
    second = torch.autograd.grad(value, leaves, 2 * upstream)
    assert_all_close(second, [2 * one for one in first])


@REDUCTIONS
@pytest.mark.parametrize("how", ["is_grads_batched", "vmap"])
def test_a_batch_of_upstream_gradients_is_a_loop(compiled_device, reduction, how):
    tensors, options = random_head(9, 3, 5, device=compiled_device)
    leaves = [tensor.requires_grad_() for tensor in tensors.values()]
    function = by_position(**options, reduction=reduction, memory_budget=BUDGET)
    value = function(*leaves)
    upstream = torch.randn(2, *value.shape, device=compiled_device)
    expected = [torch.autograd.grad(value, leaves, each, retain_graph=True) for each in upstream]
    value = function(*leaves)
    if how == "vmap":
        grads = vmap(lambda each: torch.autograd.grad(value, leaves, each))(upstream)
    else:
        grads = torch.autograd.grad(value, leaves, upstream, is_grads_batched=True)
    assert_all_close(grads, [torch.stack(each) for each in zip(*expected, strict=True)])


IN_DIMS = {
    "samples": (0, None, None, None),
    "samples and features": (0, 1, None, None),
    "heads": (None, None, 0, 0),
    "biases": (None, 0, None, 0),
    "everything": (1, 0, 0, 1),
}


@REDUCTIONS
@pytest.mark.parametrize("in_dims", IN_DIMS.values(), ids=[name.replace(" ", "_") for name in IN_DIMS])
def test_vmap_is_a_loop(compiled_device, in_dims, reduction):
    batches = [random_head(9, 3, 5, device=compiled_device, seed=seed)[0].values() for seed in range(3)]
    inputs = [
        each[0] if dim is None else torch.stack(each, dim)
        for each, dim in zip(zip(*batches, strict=True), in_dims, strict=True)
    ]
    function = by_position(num_components=3, reduction=reduction, memory_budget=BUDGET)

    def loop(function):
        return [
            function(
                *(t if dim is None else t.select(dim, i) for t, dim in zip(inputs, in_dims, strict=True))
            )
            for i in range(3)
        ]

    assert_close("value", vmap(function, in_dims)(*inputs), torch.stack(loop(function)), 1e-5)
    gradient = grad(lambda *tensors: function(*tensors).sum(), (0, 1, 2, 3))
    expected = [torch.stack(each) for each in zip(*loop(gradient), strict=True)]
    assert_all_close(vmap(gradient, in_dims)(*inputs), expected)


@pytest.mark.parametrize("use_reentrant", [False, True])
@REDUCTIONS
def test_checkpointing_changes_nothing(device, reduction, use_reentrant):
    tensors, options = random_head(9, 3, 5, device=device)
    function = by_position(**options, reduction=reduction, memory_budget=BUDGET)
    value, grads = value_and_grads(function, list(tensors.values()))
    leaves = [tensor.clone().requires_grad_() for tensor in tensors.values()]
    again = torch.utils.checkpoint.checkpoint(function, *leaves, use_reentrant=use_reentrant)
    again.backward(upstream_for(again))
    assert torch.equal(again, value)
    assert_all_close([leaf.grad for leaf in leaves], grads)


def test_gradients_accumulate_over_steps_and_over_uses_of_one_weight(device):
    tensors, options = random_head(8, 3, 5, device=device)
    x, h, *parameters = tensors.values()
    parameters = [parameter.requires_grad_() for parameter in parameters]
    (
        linear_gmm_nll(x, h, *parameters, **options) + linear_gmm_nll(x, 2 * h, *parameters, **options)
    ).backward()
    tied = [parameter.grad.clone() for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    linear_gmm_nll(x, h, *parameters, **options).backward()
    linear_gmm_nll(x, 2 * h, *parameters, **options).backward()
    assert_all_close([parameter.grad for parameter in parameters], tied)


@pytest.fixture
def process_group(tmp_path):
    torch.distributed.init_process_group("gloo", f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_distributed_data_parallelism_changes_nothing(device, process_group):
    class Loss(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = torch.nn.Linear(6, 7), MixtureHead(7, 5, 3)

        def forward(self, x, inputs):
            return self.head.nll(x, self.body(inputs).tanh())

    model = Loss().to(device)
    parallel = DistributedDataParallel(model)
    batches = [(torch.randn(9, 5, device=device), torch.randn(9, 6, device=device)) for _ in range(2)]

    def gradients(model, first):
        model.zero_grad()
        with first():
            model(*batches[0]).backward()
        model(*batches[1]).backward()
        return [parameter.grad.clone() for parameter in model.parameters()]

    expected = gradients(model, lambda: torch.autograd.set_grad_enabled(True))
    for result, wanted in zip(gradients(parallel, parallel.no_sync), expected, strict=True):
        assert torch.equal(result, wanted)


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_meta_tensors_have_the_shapes_and_dtypes_of_real_ones(dtype, reduction):
    tensors, options = random_head(9, 3, 5, dtype=dtype)
    function = by_position(**options, reduction=reduction)
    value, grads = value_and_grads(function, list(tensors.values()))
    meta_value, meta_grads = value_and_grads(function, [tensor.to("meta") for tensor in tensors.values()])
    for result, expected in zip((meta_value, *meta_grads), (value, *grads), strict=True):
        assert result.is_meta
        assert (result.shape, result.dtype) == (expected.shape, expected.dtype)


def test_inference_and_deterministic_mode_are_served(device):
    tensors, options = random_head(9, 3, 5, device=device)
    expected = linear_gmm_nll(**tensors, **options)
    enabled = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        _, grads = value_and_grads(by_position(**options), list(tensors.values()))
        with torch.inference_mode():
            assert math.isclose(linear_gmm_nll(**tensors, **options), expected, rel_tol=1e-6)
    finally:
        torch.use_deterministic_algorithms(enabled)
    assert all(grad.isfinite().all() for grad in grads)
