"""`linear_gmm_nll` against the same without chunks: value, gradients, options, chunk boundaries."""

import itertools

import pytest
import torch

from vtadl_ext import _binary, _linear_gmm_ops, gmm_nll, linear_gmm_nll, reference

from .comparison import DTYPES, LAYOUTS, assert_close, check_against_reference, dtype_id, value_and_grads
from .heads import POSITIVE, SCALES, by_position, random_head
from .mixtures import SCALE_PARAMS

# Half-precision products round differently from chunk to chunk.
TOLERANCE = {torch.float64: 1e-11, torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}
REDUCTIONS = pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
ALL_SCALES = pytest.mark.parametrize("scale", SCALES)


def unchunked(x, h, weight, bias=None, *, num_components, shared_scale=False, **options):
    """The same from a linear layer and `gmm_nll`."""
    means = num_components * x.shape[-1]
    sizes = (num_components, means, len(weight) - num_components - means)
    logits, mu, scale = torch.nn.functional.linear(h, weight, bias).split(sizes, -1)
    scale = scale.unflatten(-1, (1 if shared_scale else num_components, -1))
    return gmm_nll(x, logits, mu.unflatten(-1, (num_components, -1)), scale, **options)


def check(tensors, budget=None, tolerance=None, needs=None, **options):
    inputs = list(tensors.values())
    tolerance = tolerance or TOLERANCE[inputs[0].dtype]
    value, grads = value_and_grads(by_position(memory_budget=budget, **options), inputs, needs)
    expected, expected_grads = value_and_grads(by_position(unchunked, **options), inputs, needs)
    assert (value.dtype, value.shape) == (expected.dtype, expected.shape)
    assert_close("value", value, expected, tolerance, at_least=1.0)
    for name, grad, wanted in zip(tensors, grads, expected_grads, strict=True):
        if wanted is None:
            assert grad is None
            continue
        assert grad.dtype == wanted.dtype
        assert_close(f"gradient of {name}", grad, wanted, tolerance, at_least=1e-3)


@ALL_SCALES
@REDUCTIONS
@pytest.mark.parametrize("mixture", ["logsumexp", "weighted"])
@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
def test_it_is_a_linear_layer_and_the_likelihood(device, dtype, mixture, reduction, scale):
    tensors, options = random_head(20, 3, 5, scale=scale, dtype=dtype, device=device)
    check(tensors, 2000, **options, mixture=mixture, reduction=reduction, min_std=0.5)


@ALL_SCALES
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize("scale_param", SCALE_PARAMS)
def test_every_parametrisation_agrees_with_the_reference(device, scale_param, bias, scale):
    if not bias and scale_param in POSITIVE:
        pytest.skip("without a bias these would be negative")
    tensors, options = random_head(
        20, 3, 5, scale=scale, scale_param=scale_param, dtype=torch.float64, device=device, bias=bias
    )
    assert reference.linear_gmm_nll(**tensors, **options, reduction="none").isfinite().all()
    for reduction in ("mean", "none"):
        check_against_reference(
            linear_gmm_nll, reference.linear_gmm_nll, tensors, **options, reduction=reduction, min_std=0.2
        )


@pytest.mark.parametrize("features", [1, 2, 4, 16, 33])
@pytest.mark.parametrize("components", [1, 3, 40])
def test_sizes_around_those_of_the_kernels_are_right(device, components, features):
    for scale in SCALES:
        tensors, options = random_head(9, components, features, scale=scale, device=device)
        check(tensors, 4000, **options)


def rows_in_chunks(monkeypatch, tensors, reduction="mean", **options):
    """The rows of each chunk of one call."""
    rows = []
    mixtures = _linear_gmm_ops._Head.mixtures

    def counted(head, h):
        rows.append(len(h))
        return mixtures(head, h)

    monkeypatch.setattr(_linear_gmm_ops._Head, "mixtures", counted)
    with torch.no_grad():
        linear_gmm_nll(**tensors, **options, reduction=reduction)
    monkeypatch.undo()
    return rows


BYTES_OF_SAMPLE = 4 * (3 + 2 * 3 * 5) + 3 * 4 * 3  # of K = 3, D = 5 in float32


@pytest.mark.parametrize(
    ("samples", "budget", "chunks"),
    [
        (20, 20 * BYTES_OF_SAMPLE, [20]),
        (20, 10**9, [20]),
        (20, 19 * BYTES_OF_SAMPLE, [10, 10]),
        (20, 7 * BYTES_OF_SAMPLE, [7, 7, 6]),
        (20, 2 * BYTES_OF_SAMPLE - 1, [1] * 20),
        (20, 1, [1] * 20),
        (1, 1, [1]),
        (0, 1, []),
        (0, None, []),
    ],
)
def test_chunks_are_as_large_as_the_budget_allows_and_alike(monkeypatch, samples, budget, chunks):
    tensors, options = random_head(samples, 3, 5)
    assert rows_in_chunks(monkeypatch, tensors, **options, memory_budget=budget) == chunks


@pytest.mark.parametrize(
    ("samples", "chunks"),
    [
        (192, [192]),
        (193, [97, 96]),
        (1920, [192] * 10),
        (8192, [512] * 16),
        (8193, [513] * 15 + [498]),
    ],
)
def test_without_a_budget_chunks_are_a_sixteenth_or_192_rows(monkeypatch, samples, chunks):
    monkeypatch.setattr(_linear_gmm_ops, "_MIN_BYTES", {"cpu": 0, "cuda": 0})
    tensors, options = random_head(samples, 3, 5)
    assert rows_in_chunks(monkeypatch, tensors, **options) == chunks


def test_chunks_of_small_heads_are_16_mib(monkeypatch):
    tensors, options = random_head(200_000, 3, 5)
    assert rows_in_chunks(monkeypatch, tensors, **options) == [66_667, 66_667, 66_666]


@REDUCTIONS
@pytest.mark.parametrize("rows", [1, 2, 6, 7, 12, 13, 14])
def test_chunk_boundaries_do_not_matter(device, rows, reduction):
    tensors, options = random_head(13, 3, 5, device=device)
    check(tensors, rows * BYTES_OF_SAMPLE, **options, reduction=reduction)


def test_what_a_chunk_leaves_in_memory_does_not_reach_the_next(device):
    tensors, options = random_head(6, 3, 5, device=device)
    tensors["x"][:2] = torch.nan
    value, grads = value_and_grads(
        by_position(memory_budget=2 * BYTES_OF_SAMPLE, **options, reduction="none"), list(tensors.values())
    )
    assert value.isnan().tolist() == [True, True, False, False, False, False]
    assert grads[0][2:].isfinite().all()
    assert grads[1][2:].isfinite().all()


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize(
    "needs",
    [n for n in itertools.product([True, False], repeat=4) if any(n)],
    ids=lambda n: "".join("nx"[x] for x in n),
)
def test_only_wanted_gradients_are_computed(device, monkeypatch, needs, reduction):
    tensors, options = random_head(13, 3, 5, device=device)
    products = []
    add_product = _linear_gmm_ops._add_product
    monkeypatch.setattr(
        _linear_gmm_ops, "_add_product", lambda *arguments: products.append(1) or add_product(*arguments)
    )
    check(tensors, 7 * BYTES_OF_SAMPLE, **options, reduction=reduction, needs=needs)
    assert len(products) == 2 * 3 * (needs[1] + needs[2])  # for two chunks' logits, mu and scale


@pytest.mark.parametrize("mixture", ["logsumexp", "weighted"])
@ALL_SCALES
def test_gradients_are_those_of_finite_differences(device, scale, mixture):
    tensors, options = random_head(3, 2, 2, 3, scale=scale, dtype=torch.float64, device=device)
    leaves = [tensor.requires_grad_() for tensor in tensors.values()]
    for reduction in ("none", "mean"):
        function = by_position(**options, mixture=mixture, reduction=reduction, memory_budget=300)
        assert torch.autograd.gradcheck(function, leaves)


@REDUCTIONS
def test_no_samples_have_no_gradient(device, reduction):
    tensors, options = random_head(0, 3, 5, device=device)
    value, grads = value_and_grads(by_position(**options, reduction=reduction), list(tensors.values()))
    if reduction == "mean":
        assert value.isnan()
    else:
        assert not value.any()
    for grad, tensor in zip(grads, tensors.values(), strict=True):
        assert grad.shape == tensor.shape
        assert not grad.any()


@REDUCTIONS
@pytest.mark.parametrize(
    ("x", "h"), [((2, 3), (2, 3)), ((2, 3), (3,)), ((2, 1), (3,)), ((), ()), ((4,), ()), ((), (4,))], ids=str
)
def test_leading_dimensions_broadcast(device, x, h, reduction):
    tensors, options = random_head(1, 3, 5, device=device)
    tensors["x"] = torch.randn(*x, 5, device=device)
    tensors["h"] = torch.randn(*h, 7, device=device)
    check(tensors, 2 * BYTES_OF_SAMPLE, **options, reduction=reduction)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["x", "h", "weight", "bias"])
def test_strides_do_not_matter(device, name, layout):
    tensors, options = random_head(13, 3, 5, device=device)
    expected, expected_grads = value_and_grads(by_position(**options), list(tensors.values()))
    tensors[name] = LAYOUTS[layout](tensors[name])
    value, grads = value_and_grads(by_position(**options), list(tensors.values()))
    assert_close("value", value, expected, 1e-6)
    for grad, wanted in zip(grads, expected_grads, strict=True):
        assert_close("gradient", grad, wanted, 1e-5)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_every_run_gives_the_same_bits(device, reduction):
    tensors, options = random_head(200, 3, 20, device=device)
    function = by_position(**options, reduction=reduction)
    first, first_grads = value_and_grads(function, list(tensors.values()))
    for _ in range(3):
        again, grads = value_and_grads(function, list(tensors.values()))
        assert torch.equal(again, first)
        for grad, wanted in zip(grads, first_grads, strict=True):
            assert torch.equal(grad, wanted)


def test_weight_gradients_of_half_precision_are_summed_in_float32(device):
    tensors, options = random_head(2048, 1, 1, 4, dtype=torch.bfloat16, device=device)
    tensors["x"][:] = 3
    tensors["h"][:] = 1  # every chunk pulls the same way: sums in bfloat16 would stop growing
    exact = {name: tensor.double() for name, tensor in tensors.items()}
    budget = 8 * 30
    value_and_grad = by_position(**options, memory_budget=budget, reduction="sum")
    _, (*_, grad, _) = value_and_grads(value_and_grad, list(tensors.values()))
    _, (*_, wanted, _) = value_and_grads(value_and_grad, list(exact.values()))
    assert_close("gradient of weight", grad, wanted, 2e-2)


def test_devices_without_kernels_run_the_reference(monkeypatch):
    monkeypatch.setattr(_binary, "has_kernels", lambda *_: False)
    monkeypatch.setattr(_binary, "ops", None)
    tensors, options = random_head(13, 3, 5, scale="spherical")
    value = linear_gmm_nll(**tensors, **options, min_std=0.5, mixture="weighted")
    assert torch.equal(value, reference.linear_gmm_nll(**tensors, **options, min_std=0.5, mixture="weighted"))
