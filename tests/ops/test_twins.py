"""Parts of the operators that are written in Python, against the independent twins in the reference."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vtadl_ext import _padding, gmm_sample, reference
from vtadl_ext._masked_softmax import mixture_log_probs, responsibilities
from vtadl_ext._multi_scale import HALVES, multi_scale_index
from vtadl_ext._reductions import mean_over_windows, reduce, reduce_weighted
from vtadl_ext._scale_params import raw_scale, standard_deviation
from vtadl_ext._windows import window_taps
from vtadl_ext.reference import _reductions as reference_reductions
from vtadl_ext.reference.gmm import _log_std, component_log_probs
from vtadl_ext.reference.ssim import _halve as reference_halve
from vtadl_ext.reference.ssim import pad_image, window_index
from vtadl_ext.reference.ssim import window_taps as reference_taps

from .comparison import DTYPES, LAYOUTS, assert_close, dtype_id, value_and_grads
from .images import random_images, random_mask
from .mixtures import RAW_SCALE, SCALE_PARAMS, random_mixture
from .regimes import modest

INF, NAN = math.inf, math.nan


def assert_alike(function, expected_function, *tensors, tolerance=1e-14):
    """Values and gradients of two functions in double precision."""
    value, grads = value_and_grads(function, tensors)
    expected, expected_grads = value_and_grads(expected_function, tensors)
    assert value.dtype == expected.dtype
    assert_close("value", value, expected, tolerance, at_least=1e-300)
    for i, (grad, expected_grad) in enumerate(zip(grads, expected_grads, strict=True)):
        assert_close(f"gradient {i}", grad, expected_grad, tolerance, at_least=1e-300)


@pytest.mark.parametrize("sigma", [1e-3, 0.05, 0.9, 1.5, 20.0, 1e6])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 10, 11, 16, 31])
def test_windows(size, sigma):
    assert window_taps("uniform", size, sigma) == pytest.approx([1 / size] * size, rel=1e-15)
    assert reference_taps("uniform", size, sigma) == pytest.approx([1 / size] * size, rel=1e-15)
    if size % 2 or sigma >= 0.05:  # narrower windows of even size weigh nothing
        taps = window_taps("gaussian", size, sigma)
        assert taps == pytest.approx(reference_taps("gaussian", size, sigma), rel=1e-15, abs=0)
        centre = (size - 1) / 2
        heights = torch.exp(-0.5 * ((torch.arange(size, dtype=torch.float64) - centre) / sigma) ** 2)
        assert_close("taps", torch.tensor(taps), heights / heights.sum(), 1e-7)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
@pytest.mark.parametrize("window_size", [3, 8, 11])
@pytest.mark.parametrize("padding", ["reflect", "symmetric"])
def test_mirrored_images(padding, window_size, dtype, layout):
    image = layout(random_images(2, 3, 7, 9, dtype=dtype)["x"])
    width = window_size // 2
    assert_alike(
        partial(_padding.pad_image, widths=(width, width), padding=padding),
        lambda image: pad_image(image, (window_size, window_size), padding),
        image,
        tolerance=1e-14 if dtype == torch.float64 else 1e-2,
    )
    expected = np.pad(image.double().numpy(), [(0, 0), (0, 0), (width, width), (width, width)], padding)
    assert np.array_equal(_padding.pad_image(image, (width, width), padding).double().numpy(), expected)


@pytest.mark.parametrize("sizes", [(3, 3), (8, 8), (11, 5)], ids=str)
@pytest.mark.parametrize("padding", ["reflect", "symmetric"])
def test_mirrored_masks(padding, sizes):
    mask = random_mask(2, 3, 7, 9)
    padded = _padding.pad_mask(mask, [size // 2 for size in sizes], padding)
    assert padded.dtype == torch.bool
    assert torch.equal(padded, pad_image(mask.float(), sizes, padding) > 0)


HALVED = [
    (odd_sides, size)
    for odd_sides in ("replicate", "zeros", "drop")
    for size in [(6, 8), (7, 8), (6, 9), (7, 9), (1, 1), (2, 3)]
    if odd_sides != "drop" or min(size) > 1  # of a single pixel nothing would remain
]


@pytest.mark.parametrize(("odd_sides", "size"), HALVED, ids=str)
def test_halved_images(odd_sides, size):
    image = random_images(2, 3, *size, dtype=torch.float64)["x"]
    assert_alike(HALVES[odd_sides], lambda image: reference_halve(image, odd_sides), image)
    odd = [side % 2 for side in size]
    before, after, mode = {
        "replicate": ((0, 0), odd, "edge"),
        "zeros": (odd, (0, 0), "constant"),
        "drop": ((0, 0), (0, 0), "constant"),
    }[odd_sides]
    padded = np.pad(image.numpy(), [(0, 0), (0, 0), *zip(before, after, strict=True)], mode)
    blocks = torch.from_numpy(padded).unfold(-2, 2, 2).unfold(-2, 2, 2)
    assert_close("halves", HALVES[odd_sides](image), blocks.mean((-2, -1)), 1e-14)


@pytest.mark.parametrize("weights", [(1.0,), (0.4, 0.6), (0.2, 0.3, 0.1)], ids=str)
@pytest.mark.parametrize("noise", [0.2, 30.0])
def test_products_over_scales(weights, noise):
    """Much noise makes some means negative."""
    images = random_images(3, 2, 21, 18, dtype=torch.float64, noise=noise).values()
    taps = reference_taps("gaussian", 3, 1.5)

    def plane_means(x, y, component):
        return window_index(x, y, (taps, taps), 1.0, 0.01, 0.03, component=component)[0].mean((-2, -1))

    for reduction, odd_sides in (("mean", "replicate"), ("none", "zeros"), ("sum", "drop")):
        index = partial(multi_scale_index, plane_means, exponents=weights, odd_sides=odd_sides)
        assert_alike(
            lambda x, y, index=index, r=reduction: reduce(index(x, y).mean(-1), r),
            partial(
                reference.ms_ssim, window_size=3, weights=weights, odd_sides=odd_sides, reduction=reduction
            ),
            *images,
        )


@pytest.mark.parametrize("mean", [-0.5, 0.0, 1e-8, 1e-7, 0.3, NAN])
def test_powers_of_means(mean):
    image = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
    leaf = torch.full((1, 1), mean, dtype=torch.float64, requires_grad=True)
    index = multi_scale_index(lambda *_: leaf, image, image, (0.5,), "replicate")
    expected = math.sqrt(mean) if not mean < 1e-7 else 0.0
    slope = 0.5 / expected if expected else 0.0
    torch.testing.assert_close(index.item(), expected, equal_nan=True)
    torch.testing.assert_close(torch.autograd.grad(index, leaf)[0].item(), slope, equal_nan=True)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("count", [0, 1, 7])
def test_reductions(count, reduction):
    values = torch.randn(count, dtype=torch.float64)
    assert_alike(
        *(partial(each, reduction=reduction) for each in (reduce, reference_reductions.reduce)), values
    )


@modest
@given(
    values=st.lists(st.sampled_from([0.5, -2.0, 0.0, INF, -INF, NAN]), max_size=4),
    weights=st.lists(st.sampled_from([0.0, 0.25, 3.0]), min_size=4, max_size=4),
    reduction=st.sampled_from(["mean", "sum", "none"]),
    shared=st.booleans(),
)
def test_weighted_reductions(values, weights, reduction, shared):
    values = torch.tensor([values, values], dtype=torch.float64)
    weight = torch.tensor(weights[: values.shape[1]], dtype=torch.float64)
    weight = weight if shared else torch.stack([weight, 2 * weight])
    functions = [
        partial(each, reduction=reduction) for each in (reduce_weighted, reference_reductions.reduce_weighted)
    ]
    assert_alike(*functions, values, weight)
    masks = [lambda values, f=function: f(values, weight > 0) for function in functions]
    assert_alike(*masks, values)


def test_means_over_windows_that_may_be_missing():
    total = torch.tensor([3.0, 0.0, -1.0], dtype=torch.float64, requires_grad=True)
    windows = torch.tensor([2.0, 0.0, 4.0], dtype=torch.float64)
    mean = mean_over_windows(total, windows)
    assert mean[[0, 2]].tolist() == [1.5, -0.25]
    assert mean[1].isnan()
    (grad,) = torch.autograd.grad(mean.sum(), total)
    assert grad.tolist() == [0.5, 0.0, 0.25]


LOGITS = [
    [0.0, 1.0, -2.0],
    [-INF, 1.0, -2.0],
    [-INF, -INF, 3.0],
    [-INF, -INF, -INF],
    [1e4, -1e4, 0.0],
    [NAN, 0.0, -INF],
    [NAN, -INF, -INF],
    [INF, 0.0, -INF],
]


@pytest.mark.parametrize("logits", LOGITS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16], ids=dtype_id)
def test_log_probabilities_of_components(logits, dtype):
    logits = torch.tensor([LOGITS[0], logits], dtype=dtype)
    mixture = random_mixture((2, 4), (3,), (3, 4), (3, 4), dtype=dtype)

    def expected(logits):
        return component_log_probs(
            *(mixture["x"], logits, mixture["mu"], mixture["scale"]), None, "log_std", 0.0
        )[0]

    assert_alike(mixture_log_probs, expected, logits)
    if not logits.isnan().any() and logits[1].max() not in (-INF, INF):
        assert_close("sum", mixture_log_probs(logits).exp().sum(-1), torch.ones(2), 1e-6)


@pytest.mark.parametrize(
    "joint", [*LOGITS, [INF, INF, 0.0], [-1e308, -1e308, -INF], [1e308, INF, 0.0]], ids=str
)
def test_responsibilities_of_components(joint):
    joint = torch.tensor([LOGITS[0], joint], dtype=torch.float64)
    value, (grad,) = value_and_grads(responsibilities, [joint])
    largest = torch.finfo(torch.float64).max
    for row, row_grad, log_probs in zip(value, grad, joint, strict=True):
        if log_probs.isnan().any():
            assert row.isnan().all()
        elif (log_probs == -INF).all():
            assert not row.any()
            assert not row_grad.any()
        else:
            finite = log_probs.clamp(max=largest)
            finite = finite - finite.max()
            assert_close("responsibilities", row, (finite - finite.logsumexp(-1)).exp(), 1e-12)
            assert row_grad.isfinite().all()


@pytest.mark.parametrize("min_std", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("scale_param", SCALE_PARAMS)
def test_standard_deviations(scale_param, min_std):
    std = torch.tensor([0.0, 1e-9, 0.3, 0.7, 5.0, 1e3, INF], dtype=torch.float64)
    # expm1 overflows where softplus has long been its argument.
    scale = std.clone() if scale_param == "softplus" else RAW_SCALE[scale_param](std)
    if scale_param == "softplus":
        std = torch.where(scale > 700, scale, scale.exp().log1p())
    expected = std.clamp(min=min_std)
    assert_close("standard deviations", standard_deviation(scale, scale_param, min_std), expected, 1e-14)
    assert_close("reference", _log_std(scale, scale_param, min_std).exp(), expected, 1e-12)


@pytest.mark.parametrize("min_std", [0.0, 0.5])
@pytest.mark.parametrize("scale_param", SCALE_PARAMS)
def test_standard_deviations_at_the_edges(scale_param, min_std):
    scale = torch.tensor([-INF, -100.0, -1.0, -0.0, 0.0, 100.0, INF, NAN], dtype=torch.float64)
    std = standard_deviation(scale, scale_param, min_std)
    expected = _log_std(scale, scale_param, min_std).exp()
    assert torch.equal(std.isnan(), expected.isnan())
    assert_close("finite", std.nan_to_num(0, -1, -1), expected.nan_to_num(0, -1, -1), 1e-12)


@pytest.mark.parametrize("std", [1e-3, 0.5, 1.0, 30.0])
@pytest.mark.parametrize("scale_param", SCALE_PARAMS)
def test_raw_scales_are_the_inverse(scale_param, std):
    raw = torch.tensor(raw_scale(std, scale_param), dtype=torch.float64)
    torch.testing.assert_close(standard_deviation(raw, scale_param, 0.0).item(), std)


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
@pytest.mark.parametrize("temperature", [0.0, 1e-40, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("sample_shape", [(), (1, 1), (5,), (2, 3)], ids=str)
@pytest.mark.parametrize("scale_param", [*SCALE_PARAMS, "tril"])
def test_samples(scale_param, sample_shape, temperature, dtype):
    """From the same random numbers, up to rounding. test_gmm_sample.py has their distribution."""
    options = {} if scale_param == "tril" else {"scale_param": scale_param}
    scale = {"scale_tril": (3, 2, 2)} if scale_param == "tril" else {"scale": (1, 2)}
    mixture = random_mixture((1,), (4, 1, 3), (6, 3, 2), **scale, **options, dtype=dtype)
    del mixture["x"]
    mixture["logits"][0, 0, 1] = -INF
    mixture["logits"][1] = -INF
    mixture["logits"][2, 0, 0] = NAN
    mixture["logits"][3] = 0.5
    if scale_param != "tril":
        options["min_std"] = 0.9
    samples, expected = (
        function(
            **mixture,
            **options,
            temperature=temperature,
            sample_shape=sample_shape,
            generator=torch.Generator().manual_seed(1),
        )
        for function in (gmm_sample, reference.gmm_sample)
    )
    assert samples.dtype == dtype
    assert samples.isnan().any()
    tolerance = {torch.float64: 1e-13, torch.float32: 1e-6}.get(dtype, 1e-2)
    assert_close("samples", samples, expected, tolerance)


def test_samples_follow_the_density():
    """Their mean log-density is that of the reference's samples, and of one component minus its entropy."""
    mixture = random_mixture((1,), (3,), (3, 2), (3, 2), dtype=torch.float64)
    del mixture["x"]
    count = 40_000
    draws = [
        function(**mixture, sample_shape=(count,), generator=torch.Generator().manual_seed(seed))
        for seed, function in enumerate((gmm_sample, reference.gmm_sample))
    ]
    log_probs = [reference.gmm_log_prob(x, **mixture) for x in draws]
    error = math.sqrt(2 / count) * log_probs[0].std()
    assert abs(log_probs[0].mean() - log_probs[1].mean()) < 5 * error
    one = {name: tensor[:1] for name, tensor in mixture.items()}
    x = gmm_sample(**one, sample_shape=(count,), generator=torch.Generator().manual_seed(2))
    entropy = one["scale"].sum() + 1 + math.log(2 * math.pi)
    assert abs(reference.gmm_log_prob(x, **one).mean() + entropy) < 5 / math.sqrt(count)
