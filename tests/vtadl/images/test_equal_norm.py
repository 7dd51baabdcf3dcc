import pytest
import torch

from vtadl.cli.export import export
from vtadl.detector import Detector
from vtadl.images.equal_norm import EqualNorm


def test_images_get_the_norm_of_normal_ones():
    normal, images = torch.rand(20, 3, 8, 8), torch.rand(5, 3, 8, 8)
    equal = EqualNorm()
    equal.fit(normal)
    brought = equal(images)
    expected = 0.6 * normal.flatten(1).norm(dim=1).mean()
    torch.testing.assert_close(brought.flatten(1).norm(dim=1), expected.expand(5))
    torch.testing.assert_close(equal(0.3 * images), brought)
    assert equal(torch.zeros(1, 3, 8, 8)).eq(0).all()


def test_a_trained_detector_scores_dark_and_bright_images_alike(trained_with_equal_norm, tmp_path):
    detector = Detector.load(trained_with_equal_norm, device="cpu")
    image = torch.rand(3, 32, 32)
    bright, dark = detector.predict(image), detector.predict(0.25 * image)
    assert dark.score == pytest.approx(bright.score, rel=1e-3)
    pixels = (255 * image.permute(1, 2, 0)[None]).byte()
    program = torch.export.load(
        export(str(trained_with_equal_norm), "torch", str(tmp_path / "x.pt2"))
    ).module()
    expected = detector.predict(pixels[0].permute(2, 0, 1)).score
    assert program(pixels)["score"].item() == pytest.approx(expected, rel=1e-4)
