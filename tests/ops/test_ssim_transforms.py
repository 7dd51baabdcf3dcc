"""`ssim` under PyTorch's transformations: autograd, vmap, compilation, export, autocast, fake tensors."""

from functools import partial

import pytest
import torch
from torch.func import grad, jacrev, vmap

from vtadl_ext import ssim

from .comparison import (
    DTYPES,
    assert_close,
    assert_meta_results,
    deterministic_algorithms,
    dtype_id,
    value_and_grads,
)
from .images import EACH_PADDING, check_ssim, random_images, random_mask

REDUCTIONS = pytest.mark.parametrize("reduction", ["mean", "none", "map"])
small = partial(ssim, window_size=3)


@EACH_PADDING
@REDUCTIONS
def test_gradients_are_those_of_finite_differences(device, reduction, padding):
    images = random_images(1, 4, 3, dtype=torch.float64, device=device).values()
    mask = random_mask(4, 3, device=device)
    masked = partial(small, reduction=reduction, padding=padding, mask=mask)
    function = partial(small, reduction=reduction, padding=padding)
    assert torch.autograd.gradcheck(masked, [image.requires_grad_() for image in images], nondet_tol=1e-12)
    assert torch.autograd.gradcheck(function, [image.requires_grad_() for image in images], nondet_tol=1e-12)


@REDUCTIONS
@pytest.mark.parametrize("masked", [True, False], ids=["masked", "unmasked"])
def test_cuda_graphs_replay_on_new_images(masked, reduction):
    if not torch.cuda.is_available():
        pytest.skip("this machine has no GPU")
    leaves = [image.requires_grad_() for image in random_images(2, 3, 40, 50, device="cuda").values()]
    mask = random_mask(40, 50, device="cuda") if masked else None

    def step():
        value = ssim(*leaves, mask=mask, reduction=reduction)
        return value, *torch.autograd.grad(value.sum(), leaves)

    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        expected = step()
    torch.cuda.current_stream().wait_stream(side)
    for result, again in zip(expected, step(), strict=True):  # the kernels run on the caller's stream
        assert torch.equal(result, again)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):  # a synchronisation or a host read would fail here
        results = step()
    with torch.no_grad():
        for leaf, image in zip(leaves, random_images(2, 3, 40, 50, seed=1).values(), strict=True):
            leaf.copy_(image)
    for _ in range(2):
        graph.replay()
        for replayed, again in zip(results, step(), strict=True):
            assert torch.equal(replayed, again)


# Window, data range, k1, k2, border and luminance, as the raw operators take them.
OPTIONS = ([0.25, 0.5, 0.25], [0.25, 0.5, 0.25], 1.0, 0.01, 0.03, True, 0)


@pytest.mark.parametrize("needs", [(True, True), (True, False), (False, True)], ids=str)
@pytest.mark.parametrize("masked", [True, False], ids=["masked", "unmasked"])
def test_the_raw_operators_pass_pytorchs_checks(compiled_device, masked, needs):
    x, y = random_images(2, 3, 6, 7, device=compiled_device).values()
    y = y.contiguous(memory_format=torch.channels_last)
    mask = random_mask(6, 7, device=compiled_device).expand(2, 3, 6, 7) if masked else None
    arguments = (x, y, mask, *OPTIONS)
    operators = torch.ops.vtadl_ext
    for map, errors in ((True, False), (False, False), (False, True)):
        torch.library.opcheck(operators.ssim_forward, (*arguments, map, errors))
        upstream = torch.ones_like(operators.ssim_forward(*arguments, map, errors))
        torch.library.opcheck(operators.ssim_backward, (upstream, *arguments, map, errors, *needs))
    weights = [0.5, 0.0, 2.0, 3.0]
    torch.library.opcheck(operators.ssim_total, (weights, *arguments, True))
    torch.library.opcheck(operators.ssim_forward_backward, (weights, *arguments, True, *needs))


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compilation_changes_nothing_forward_and_backward(compiled_device, backend):
    torch.compiler.reset()

    def loss(x, y):
        return 1 - ssim(x.sigmoid(), y, padding="same") + (x - y).abs().mean()

    images = random_images(2, 1, 14, 15, device=compiled_device).values()
    value, grads = value_and_grads(torch.compile(loss, fullgraph=True, backend=backend), images)
    expected, expected_grads = value_and_grads(loss, images)
    assert_close("value", value, expected, 1e-6)
    for name, compiled_grad, expected_grad in zip("xy", grads, expected_grads, strict=True):
        assert_close(f"gradient of {name}", compiled_grad, expected_grad, 1e-5)


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_masked_code_compiles_whole(compiled_device, backend):
    torch.compiler.reset()
    compiled = torch.compile(ssim, fullgraph=True, backend=backend)
    images = random_images(2, 2, 14, 15, device=compiled_device).values()
    mask = random_mask(2, 1, 14, 15, device=compiled_device)
    for padding, reduction in (("same", "mean"), ("reflect", "none")):
        check_compiled(compiled, ssim, images, mask=mask, padding=padding, reduction=reduction)


def check_compiled(compiled, function, images, **options):
    value, grads = value_and_grads(partial(compiled, **options), images)
    expected, expected_grads = value_and_grads(partial(function, **options), images)
    assert_close("value", value, expected, 1e-6)
    for name, compiled_grad, expected_grad in zip("xy", grads, expected_grads, strict=True):
        assert_close(f"gradient of {name}", compiled_grad, expected_grad, 1e-5)


@REDUCTIONS
@pytest.mark.parametrize("context", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_code_compiles_whole_where_nobody_needs_gradients(compiled_device, context, reduction):
    torch.compiler.reset()
    images = random_images(1, 3, 12, 14, device=compiled_device).values()
    function = partial(ssim, reduction=reduction)
    with context():
        value = torch.compile(function, fullgraph=True, backend="aot_eager")(*images)
    assert_close("value", value, function(*images), 1e-6)


@pytest.mark.parametrize(("reduction", "padding"), [("mean", "valid"), ("none", "reflect"), ("map", "same")])
def test_compiled_code_serves_other_sizes(compiled_device, reduction, padding):
    torch.compiler.reset()
    function = partial(small, reduction=reduction, padding=padding)
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager", dynamic=True)
    for shape in [(2, 3, 6, 7), (4, 5, 9, 8)]:
        check_compiled(compiled, function, random_images(*shape, device=compiled_device).values())


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("data_range", [1.0, 2.0, 255.0]),
        ("window_sigma", [1.0, 1.5, 2.0]),
        ("window_size", [3, 5, 7]),
        ("k1", [0.01, 0.02, 0.03]),
    ],
)
def test_compiled_code_serves_other_numbers(compiled_device, option, values):
    torch.compiler.reset()
    compiled = torch.compile(
        lambda *args, **options: ssim(*args, **options), fullgraph=True, backend="aot_eager"
    )
    images = random_images(2, 1, 12, 13, device=compiled_device).values()
    for value in values:
        check_compiled(compiled, ssim, images, **{option: value})


def test_an_exported_program_serves_other_sizes(compiled_device):
    class Index(torch.nn.Module):
        def forward(self, x, y):
            return small(x, y, reduction="none")

    images, height = torch.export.Dim("images", min=2), torch.export.Dim("height", min=5)
    program = torch.export.export(
        Index(),
        tuple(random_images(2, 3, 6, 7, device=compiled_device).values()),
        dynamic_shapes=({0: images, 2: height},) * 2,
    )
    for shape in [(2, 3, 6, 7), (5, 3, 8, 7)]:
        inputs = random_images(*shape, device=compiled_device).values()
        assert torch.equal(program.module()(*inputs), Index()(*inputs))


def test_an_exported_program_takes_a_mask(compiled_device):
    class Index(torch.nn.Module):
        def forward(self, x, y, mask):
            return small(x, y, mask=mask, padding="same")

    batch = torch.export.Dim("images", min=2)
    inputs = (
        *random_images(2, 3, 6, 7, device=compiled_device).values(),
        random_mask(6, 7, device=compiled_device),
    )
    program = torch.export.export(Index(), inputs, dynamic_shapes=({0: batch}, {0: batch}, None))
    inputs = (*random_images(5, 3, 6, 7, device=compiled_device).values(), ~inputs[2])
    assert_close("value", program.module()(*inputs), Index()(*inputs), 1e-6)


IN_DIMS = pytest.mark.parametrize("in_dims", [(0, 0), (0, None), (None, 1), (1, -1)], ids=str)


def batched(in_dims, device):
    """Images [2, 3, 12, 13] with a batch of 4 at these dimensions."""
    images = random_images(4, 2, 3, 12, 13, device=device).values()
    return [
        image[0] if dim is None else image.movedim(0, dim) for image, dim in zip(images, in_dims, strict=True)
    ]


def loop(function, in_dims, images):
    x, y = (
        [image] * 4 if dim is None else image.unbind(dim) for image, dim in zip(images, in_dims, strict=True)
    )
    return [function(*pair) for pair in zip(x, y, strict=True)]


@EACH_PADDING
@REDUCTIONS
@IN_DIMS
def test_vmap_is_a_loop(compiled_device, in_dims, reduction, padding):
    images = batched(in_dims, compiled_device)
    function = partial(ssim, reduction=reduction, padding=padding)
    expected = torch.stack(loop(function, in_dims, images))
    assert_close("value", vmap(function, in_dims)(*images), expected, 1e-6)


@EACH_PADDING
@REDUCTIONS
@pytest.mark.parametrize("mask_dim", [0, None, -1])
def test_vmap_of_masks_is_a_loop(compiled_device, mask_dim, reduction, padding):
    x, y = random_images(4, 2, 3, 12, 13, device=compiled_device).values()
    masks = random_mask(4, 12, 13, device=compiled_device)
    expected = [
        ssim(*each, mask=masks[0 if mask_dim is None else i], reduction=reduction, padding=padding)
        for i, each in enumerate(zip(x, y, strict=True))
    ]
    mask = masks[0] if mask_dim is None else masks.movedim(0, mask_dim)
    value = vmap(
        lambda x, y, mask: ssim(x, y, mask=mask, reduction=reduction, padding=padding), (0, 0, mask_dim)
    )(x, y, mask)
    assert_close("value", value, torch.stack(expected), 1e-6)


@IN_DIMS
@pytest.mark.parametrize("argnums", [(0, 1), (0,), (1,)], ids=str)
def test_vmap_of_gradients_is_a_loop_over_gradients(compiled_device, in_dims, argnums):
    images = batched(in_dims, compiled_device)
    function = grad(ssim, argnums)
    expected = [torch.stack(grads) for grads in zip(*loop(function, in_dims, images), strict=True)]
    for name, of_batch, of_loop in zip(argnums, vmap(function, in_dims)(*images), expected, strict=True):
        assert_close(f"gradient of {'xy'[name]}", of_batch, of_loop, 1e-5)


def test_vmap_nests(compiled_device):
    images = random_images(2, 3, 4, 12, 13, device=compiled_device).values()
    expected = torch.stack([ssim(x, y, reduction="none") for x, y in zip(*images, strict=True)])
    assert_close("value", vmap(vmap(ssim))(*images), expected, 1e-6)


def test_functional_gradients_are_those_of_autograd(device):
    images = list(random_images(2, 3, 12, 13, device=device).values())
    leaves = [image.clone().requires_grad_() for image in images]
    expected = torch.autograd.grad(ssim(*leaves), leaves)
    for functional, autograd in zip(grad(ssim, (0, 1))(*images), expected, strict=True):
        assert_close("gradient", functional, autograd, 1e-6)


def test_jacobians_hold_the_gradient_of_each_image(compiled_device):
    x, y = random_images(3, 1, 12, 13, device=compiled_device).values()
    jacobian = jacrev(lambda x: ssim(x, y, reduction="none"))(x)
    expected = torch.zeros_like(jacobian)
    for i in range(3):
        expected[i, i] = grad(ssim)(x[i], y[i])
    assert_close("jacobian", jacobian, expected, 1e-5)


def test_jacobians_under_a_mask_are_0_where_it_is_false(compiled_device):
    x, y = random_images(3, 1, 12, 13, device=compiled_device).values()
    mask = random_mask(3, 1, 12, 13, device=compiled_device)
    jacobian = jacrev(lambda x: ssim(x, y, mask=mask, reduction="none"))(x)
    for i in range(3):
        expected = grad(lambda x, i=i: ssim(x, y[i], mask=mask[i]))(x[i])
        assert_close("jacobian", jacobian[i, i], expected, 1e-5)
        assert (jacobian[i, i][~mask[i]] == 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=dtype_id)
@pytest.mark.parametrize("halved", ["x", "y", "xy"])
def test_autocast_widens_mixed_dtypes(device, halved, dtype):
    images = random_images(2, 12, 13, device=device)
    mixed = {name: image.to(dtype) if name in halved else image for name, image in images.items()}
    function = partial(ssim, reduction="map")
    with torch.autocast(device.type, dtype):
        value, grads = value_and_grads(function, mixed.values())
    expected, expected_grads = value_and_grads(function, [image.float() for image in mixed.values()])
    assert value.dtype == torch.float32
    assert_close("value", value, expected, 1e-6)
    for name, half_grad, expected_grad in zip("xy", grads, expected_grads, strict=True):
        assert half_grad.dtype == mixed[name].dtype
        assert_close(f"gradient of {name}", half_grad, expected_grad, 5e-3)


@EACH_PADDING
@REDUCTIONS
@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
def test_meta_tensors_have_the_shapes_and_dtypes_of_real_ones(dtype, reduction, padding):
    function = partial(ssim, reduction=reduction, padding=padding)
    real = random_images(2, 3, 12, 13, dtype=dtype).values()
    meta = random_images(2, 3, 12, 13, dtype=dtype, device="meta").values()
    assert_meta_results(function, real, meta)


def test_deterministic_mode_is_served(device):
    with deterministic_algorithms():
        check_ssim(random_images(2, 12, 13, device=device))


def test_inference_mode_is_served(device):
    images = random_images(2, 12, 13, device=device).values()
    with torch.inference_mode():
        value = ssim(*images)
    assert torch.equal(value, ssim(*images))


@pytest.mark.parametrize(
    ("x", "y", "mask", "taps", "component", "message"),
    [
        ((1, 1, 5, 6), (1, 1, 6, 5), None, 3, 0, "images of the same shape"),
        ((5, 6), (5, 6), None, 3, 0, "images of the same shape"),
        ((1, 1, 5, 6), (1, 1, 5, 6), (1, 1, 5, 5), 3, 0, "bool tensor of the images' shape"),
        ((1, 1, 5, 6), (1, 1, 5, 6), (5, 6), 3, 0, "bool tensor of the images' shape"),
        ((1, 1, 5, 6), (1, 1, 5, 6), None, 2, 0, "odd number of weights"),
        ((1, 1, 40, 40), (1, 1, 40, 40), None, 33, 0, "odd number of weights"),
        ((1, 1, 5, 6), (1, 1, 5, 6), None, 7, 0, "smaller than the window"),
        ((1, 1, 5, 6), (1, 1, 5, 6), None, 3, -1, "the component must be"),
        ((1, 1, 5, 6), (1, 1, 5, 6), None, 3, 3, "the component must be"),
    ],
)
def test_the_raw_operators_refuse_shapes_that_they_would_read_beyond(x, y, mask, taps, component, message):
    mask = None if mask is None else torch.ones(mask, dtype=torch.bool)
    arguments = (
        torch.zeros(x),
        torch.zeros(y),
        mask,
        *[[1 / taps] * taps] * 2,
        1.0,
        0.01,
        0.03,
        False,
        component,
    )
    operators = torch.ops.vtadl_ext
    with pytest.raises(RuntimeError, match=message):
        operators.ssim_forward(*arguments, True, False)
    with pytest.raises(RuntimeError, match=message):
        operators.ssim_backward(torch.ones(1, 1, 4), *arguments, False, False, True, True)
    with pytest.raises(RuntimeError, match=message):
        operators.ssim_forward_backward([1.0, 0.0, 0.0, 0.0], *arguments, False, True, True)


def test_the_raw_operators_refuse_masks_that_are_not_bool():
    x = torch.zeros(1, 1, 5, 6)
    with pytest.raises(RuntimeError, match="bool tensor of the images' shape"):
        torch.ops.vtadl_ext.ssim_forward(x, x, torch.ones(1, 1, 5, 6), *OPTIONS, True, False)


def test_the_raw_operators_refuse_gradients_of_another_result():
    x = torch.zeros(2, 1, 5, 6)
    for upstream, map in [
        (torch.ones(2, 1, 4), True),
        (torch.ones(2, 1, 5, 6), False),
        (torch.ones(2, 1), False),
        (torch.ones(2, 1, 4).double(), False),
    ]:
        with pytest.raises(RuntimeError, match="grad does not fit the result"):
            torch.ops.vtadl_ext.ssim_backward(upstream, x, x, None, *OPTIONS, map, False, True, True)
    with pytest.raises(RuntimeError, match="a number for each of the sums"):
        torch.ops.vtadl_ext.ssim_forward_backward([1.0], x, x, None, *OPTIONS, False, True, True)
