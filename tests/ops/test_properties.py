"""Random shapes, memory layouts, dtypes and masks against the float64 reference."""

import math

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .comparison import DTYPES, LAYOUTS
from .images import check_ssim, random_images
from .mixtures import NAMES, SCALE_PARAMS, check_gmm, random_mixture

# `device` serves all examples of a test alike.
modest = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
layouts = st.sampled_from([lambda tensor: tensor, *LAYOUTS.values()])


@st.composite
def leading_dimensions(draw):
    """Shapes that broadcast with each other, one for each argument of `gmm_nll`."""
    full = draw(st.lists(st.integers(1, 4), max_size=4))
    return [
        tuple(1 if draw(st.booleans()) else size for size in full)[draw(st.integers(0, len(full))) :]
        for _ in NAMES
    ]


@st.composite
def mixtures(draw):
    components, features = draw(st.integers(1, 9)), draw(st.sampled_from([1, 2, 3, 4, 7, 8, 16, 31, 33, 65]))
    x, logits, mu, scale = draw(leading_dimensions())
    scale_param = draw(st.sampled_from(SCALE_PARAMS))
    inputs = random_mixture(
        (*x, features),
        (*logits, components),
        (*mu, components, draw(st.sampled_from([1, features]))),
        (*scale, components, draw(st.sampled_from([1, features]))),
        scale_param=scale_param,
        dtype=draw(st.sampled_from(DTYPES)),
        seed=draw(st.integers(0, 2**32)),
    )
    for k in range(components - 1):  # one is left
        if draw(st.integers(0, 3)) == 0:
            inputs["logits"][..., k] = -math.inf
    return {name: draw(layouts)(tensor) for name, tensor in inputs.items()}, scale_param


@modest
@given(
    mixture=mixtures(),
    kind=st.sampled_from(["logsumexp", "weighted"]),
    min_std=st.sampled_from([0.0, 0.937]),
    reduction=st.sampled_from(["mean", "sum", "none"]),
    needs=st.lists(st.booleans(), min_size=4, max_size=4).filter(any),
)
def test_any_mixture_agrees_with_the_reference(device, mixture, kind, min_std, reduction, needs):
    inputs, scale_param = mixture
    inputs = {name: tensor.to(device) for name, tensor in inputs.items()}
    check_gmm(
        inputs, scale_param=scale_param, mixture=kind, min_std=min_std, reduction=reduction, needs=needs
    )


@st.composite
def image_pairs(draw):
    window_size = draw(st.sampled_from([3, 5, 7, 9, 11, 13]))
    height, width = (draw(st.integers(window_size, window_size + 26)) for _ in range(2))
    leading = draw(st.lists(st.integers(1, 3), min_size=1, max_size=2))
    images = random_images(
        *leading,
        height,
        width,
        dtype=draw(st.sampled_from(DTYPES)),
        noise=draw(st.sampled_from([0.05, 0.2, 1.0])),
        seed=draw(st.integers(0, 2**32)),
    )
    return {name: draw(layouts)(image) for name, image in images.items()}, window_size


@modest
@given(
    pair=image_pairs(),
    window=st.sampled_from(["gaussian", "uniform"]),
    padding=st.sampled_from(["valid", "same", "reflect"]),
    reduction=st.sampled_from(["mean", "none", "map"]),
    needs=st.lists(st.booleans(), min_size=2, max_size=2).filter(any),
)
def test_any_images_agree_with_the_reference(device, pair, window, padding, reduction, needs):
    images, window_size = pair
    if images["x"].dtype == torch.float16:
        reduction = "map"  # gradients of means are subnormal numbers in half precision
    check_ssim(
        {name: image.to(device) for name, image in images.items()},
        window=window,
        window_size=window_size,
        padding=padding,
        reduction=reduction,
        needs=needs,
    )
