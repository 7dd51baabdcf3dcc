from pathlib import Path

import pytest
import torch

from vtadl.cli.export import export
from vtadl.data import MVTecAD
from vtadl.detector import Detector
from vtadl.images.equal_lighting import EqualLighting


@pytest.fixture
def normal() -> torch.Tensor:
    """Returns normal images, which differ a little in their lighting."""
    pattern = torch.rand(3, 24, 24)
    gains = torch.linspace(0.5, 0.6, 20).view(-1, 1, 1, 1)
    return gains * pattern + 0.2


@pytest.fixture
def equal(normal) -> EqualLighting:
    module = EqualLighting()
    module.fit(normal)
    return module


def _distance(image: torch.Tensor, normal: torch.Tensor) -> torch.Tensor:
    """Returns the largest difference of a pixel from the most similar normal image."""
    return (image - normal).abs().amax((1, 2, 3)).min()


def test_images_within_the_range_stay_as_they_are(equal, normal):
    assert equal(normal).equal(normal)


@pytest.mark.parametrize(("gain", "offset"), [(0.7, 0.0), (1.25, 0.0), (1.0, 0.1), (1.0, -0.15), (0.8, 0.15)])
def test_another_gain_and_offset_are_undone(equal, normal, gain, offset):
    brightest = normal[-1:]
    relit = gain * brightest + offset
    assert _distance(equal(relit), normal) < 0.5 * _distance(relit, normal)


def test_a_bright_spot_leaves_the_rest_as_it_is(equal, normal):
    spotted = normal[10:11].clone()
    spotted[..., :4, :4] = 1.0  # 3 % of the pixels
    torch.testing.assert_close(equal(spotted), spotted, atol=0.02, rtol=0)


def test_more_than_lighting_can_explain_stays_abnormal(equal):
    black = equal(torch.zeros(1, 3, 24, 24))
    assert black.std() < 1e-6
    assert equal(torch.rand(1, 3, 24, 24).mul(1e-3))[0].std() < 1e-2


def test_flat_images_are_no_error():
    module = EqualLighting()
    module.fit(torch.full((2, 3, 8, 8), 0.5))
    expected = torch.full((1, 3, 8, 8), 0.5)
    torch.testing.assert_close(module(torch.full((1, 3, 8, 8), 0.25)), expected, atol=1e-3, rtol=0)
    with_defect = torch.full((1, 3, 8, 8), 0.5)
    with_defect[..., 0, 0] = 1.0
    assert module(with_defect).equal(with_defect)


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_a_black_or_a_white_image_stays_abnormal_among_flat_ones(level):
    module = EqualLighting()
    module.fit(torch.full((2, 3, 8, 8), 0.5))
    assert (module(torch.full((1, 3, 8, 8), level)) - 0.5).abs().min() > 0.2


def test_an_unfitted_module_changes_nothing():
    images = torch.rand(2, 3, 8, 8)
    assert EqualLighting()(images).equal(images)


def test_a_state_of_an_earlier_version_changes_nothing():
    module, images = EqualLighting(), torch.rand(2, 3, 8, 8)
    module.load_state_dict({})
    assert module(images).equal(images)


def _training_images(run: Path) -> torch.Tensor:
    data = MVTecAD(str(run / "parts"), image_size=32)
    data.setup("fit")
    return torch.stack([sample["image"] for sample in data.train_set])


def test_a_detector_scores_relit_images_like_normal_ones(untrained, tmp_path):
    detector = Detector.load(untrained, device="cpu")
    plain = Detector.load(untrained, device="cpu")
    plain.module.norm = torch.nn.Identity()
    images = _training_images(untrained)
    scores = detector.module(images).image
    relit = 0.8 * images
    change = (detector.module(relit).image - scores).abs().mean()
    assert change < 0.2 * (plain.module(relit).image - scores).abs().mean()
    pixels = (255 * relit.permute(0, 2, 3, 1)).round().byte()
    program = torch.export.load(export(str(untrained), "torch", str(tmp_path / "x.pt2"))).module()
    expected = torch.tensor([detector.predict(image.permute(2, 0, 1)).score for image in pixels])
    torch.testing.assert_close(program(pixels)["score"], expected, rtol=1e-4, atol=1e-4)
