"""Random shapes, memory layouts, dtypes and masks against the float64 reference."""

import math

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vtadl_ext._padding import PADDINGS

from .comparison import DTYPES, GRAD_TOLERANCE, LAYOUTS
from .images import check_ssim, random_images
from .mixtures import NAMES, SCALE_PARAMS, check_gmm, check_responsibilities, random_mixture

# `device` serves all examples of a test alike.
modest = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
many = settings(modest, max_examples=300)
layouts = st.sampled_from([lambda tensor: tensor, *LAYOUTS.values()])
masks = st.sampled_from(["none", "components", "elements"])


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
    """Arguments of `gmm_nll`: all its tensors, and the options that go with `scale`."""
    components, tril = draw(st.integers(1, 9)), draw(st.integers(0, 3)) == 0
    features = draw(st.integers(1, 8) if tril else st.sampled_from([1, 2, 3, 4, 7, 8, 16, 31, 33, 65]))
    x, logits, mu, scale = draw(leading_dimensions())
    some_components, some_features = st.sampled_from([components, 1]), st.sampled_from([features, 1])
    options = {}
    if tril:
        scale_argument = {"scale_tril": (*scale, draw(some_components), features, features)}
    else:
        scale_argument = {"scale": (*scale, draw(some_components), draw(some_features))}
        options["scale_param"] = draw(st.sampled_from(SCALE_PARAMS))
        options["min_std"] = draw(st.sampled_from([0.0, 0.937]))
    seed = draw(st.integers(0, 2**32))
    inputs = random_mixture(
        *((*x, features), (*logits, components), (*mu, draw(some_components), draw(some_features))),
        **scale_argument,
        scale_param=options.get("scale_param", "log_std"),
        dtype=draw(st.sampled_from(DTYPES)),
        seed=seed,
    )
    generator, logits = torch.Generator().manual_seed(seed), inputs["logits"]
    masked = {
        "none": torch.zeros(components),
        "components": torch.rand(components, generator=generator),
        "elements": torch.rand(logits.shape, generator=generator),  # samples without components too
    }[draw(masks)]
    inputs["logits"] = logits.masked_fill(masked > 0.7, -math.inf)
    return {name: draw(layouts)(tensor) for name, tensor in inputs.items()}, options


wanted_gradients = st.lists(st.booleans(), min_size=4, max_size=4).filter(any)


@many
@given(
    mixture=mixtures(),
    kind=st.sampled_from(["logsumexp", "weighted"]),
    reduction=st.sampled_from(["mean", "sum", "none"]),
    needs=wanted_gradients,
)
def test_any_mixture_agrees_with_the_reference(device, mixture, kind, reduction, needs):
    inputs, options = mixture
    inputs = {name: tensor.to(device) for name, tensor in inputs.items()}
    check_gmm(inputs, mixture=kind, reduction=reduction, needs=needs, for_rounding=True, **options)


@modest
@given(mixture=mixtures(), needs=wanted_gradients)
def test_any_responsibilities_agree_with_the_reference(device, mixture, needs):
    inputs, options = mixture
    inputs = {name: tensor.to(device) for name, tensor in inputs.items()}
    check_responsibilities(inputs, needs=needs, **options)


def channels_last(image):
    """Channels vary fastest."""
    return image.movedim(-3, -1).contiguous().movedim(-1, -3)


image_layouts = st.sampled_from([lambda tensor: tensor, channels_last, *LAYOUTS.values()])


@st.composite
def image_pairs(draw):
    """Images, and the options that go with their size; with a mask more often than not."""
    window_size = draw(st.sampled_from([3, 5, 7, 9, 11, 13, 21, 31]))
    leading = draw(st.lists(st.integers(1, 3), min_size=1, max_size=2))
    padding = draw(st.sampled_from(PADDINGS))
    smallest = window_size if padding == "valid" else window_size // 2 + 1
    height, width = (draw(st.integers(smallest, smallest + 26)) for _ in range(2))
    seed = draw(st.integers(0, 2**32))
    images = random_images(
        *leading,
        height,
        width,
        dtype=draw(st.sampled_from(DTYPES)),
        noise=draw(st.sampled_from([0.05, 0.2, 1.0])),
        seed=seed,
    )
    options = {"window_size": window_size, "padding": padding}
    kind = draw(st.sampled_from(["none", "none", "all", "pixels", "images", "columns"]))
    if kind != "none":
        shapes = {"images": (*leading, 1, 1), "columns": (1, width)}
        mask = torch.rand(
            shapes.get(kind, (*leading, height, width)), generator=torch.Generator().manual_seed(seed)
        )
        options["mask"] = mask < (1 if kind == "all" else 0.8)
    return {name: draw(image_layouts)(image) for name, image in images.items()}, options


@many
@given(
    pair=image_pairs(),
    window=st.sampled_from(["gaussian", "uniform"]),
    sigma=st.sampled_from([0.8, 1.5, 5.0]),
    reduction=st.sampled_from(["mean", "none", "map"]),
    needs=st.lists(st.booleans(), min_size=2, max_size=2).filter(any),
)
def test_any_images_agree_with_the_reference(device, pair, window, sigma, reduction, needs):
    images, options = pair
    if images["x"].dtype == torch.float16:
        reduction = "map"  # gradients of means are subnormal numbers in half precision
    if "mask" in options:
        options["mask"] = options["mask"].to(device)
    if images["x"].dtype != torch.float64:
        # A few pixels may have next to no variance, and a small difference of large numbers as gradient.
        few = "mask" in options or min(images["x"].shape[-2:]) < options["window_size"]
        options["value_tolerance"] = 1e-4 if few else 1e-5
        rounding = 8e-3 if images["x"].dtype == torch.bfloat16 else 0.0  # twice
        options["grad_tolerance"] = max(rounding, 1e-3 if few else 2e-4, GRAD_TOLERANCE[images["x"].dtype])
    check_ssim(
        {name: image.to(device) for name, image in images.items()},
        **options,
        window=window,
        window_sigma=sigma,
        reduction=reduction,
        needs=needs,
    )
