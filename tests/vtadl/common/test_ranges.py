"""Errors about numbers out of their range have the name that the user knows."""

import math
import re

import pytest

from vtadl.common.ranges import (
    require_fraction,
    require_less_than_all,
    require_not_negative,
    require_positive,
)
from vtadl.data import Augmentation, Folder, MNISTDigit, TextureDefects
from vtadl.errors import InputError
from vtadl.lightning_module import AnomalyDetector

POSITIVE = ("image_size", "patch_size", "width", "heads", "mlp_width", "bottleneck", "decoder_channels")
POSITIVE += ("components", "features", "stride", "top_patches", "warmup_steps")
NOT_NEGATIVE = ("depth", "noise_std", "min_std", "softness", "mse_weight", "ssim_weight", "smoothing")
NOT_NEGATIVE += ("learning_rate", "weight_decay")


@pytest.mark.parametrize(
    ("require", "accepted", "refused"),
    [
        (require_positive, [1, 0.1], [0, -1, math.nan, math.inf, 10**30]),
        (require_not_negative, [0, 2], [-0.1, math.nan, math.inf, 1e300]),
        (require_fraction, [0.01, 0.99], [0, 1, math.nan]),
        (require_less_than_all, [0, 0.99], [1, -0.1, math.nan]),
    ],
)
def test_a_number_out_of_its_range_is_named(require, accepted, refused):
    for number in [*accepted, None]:
        require(size=number)
    for number in refused:
        with pytest.raises(InputError, match=re.escape(f"size is {number}; it has to be")):
            require(other=accepted[0], size=number)


OUT_OF_RANGE = dict.fromkeys(POSITIVE, 0) | dict.fromkeys(NOT_NEGATIVE, -1)
OUT_OF_RANGE |= {"image_false_alarm_rate": 0, "pixel_false_alarm_rate": 1}


@pytest.mark.parametrize(("name", "number"), OUT_OF_RANGE.items())
def test_a_detector_names_a_setting_that_is_out_of_range(tiny, name, number):
    with pytest.raises(InputError, match=f"{name} is {number}; it has to be"):
        AnomalyDetector.from_settings(**tiny | {name: number})


def test_a_detector_without_scales_or_terms_is_refused(tiny):
    for name in ("scales", "terms"):
        with pytest.raises(InputError, match=f"{name} is"):
            AnomalyDetector.from_settings(**tiny, **{name: []})


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (lambda **options: Folder("root", **options), {"batch_size": 0}),
        (lambda **options: Folder("root", **options), {"image_size": -8}),
        (lambda **options: Folder("root", **options), {"workers": -1}),
        (lambda **options: Folder("root", **options), {"cache_gb": -1}),
        (lambda **options: MNISTDigit("root", **options), {"val_fraction": 1}),
        (TextureDefects, {"train_count": 0}),
        (Augmentation, {"rotation": -5}),
        (Augmentation, {"brightness": 1}),
    ],
)
def test_data_modules_name_a_number_that_is_out_of_range(make, options):
    ((name, number),) = options.items()
    with pytest.raises(InputError, match=f"{name} is {number}; it has to be"):
        make(**options)
