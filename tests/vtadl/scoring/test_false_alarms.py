"""What is seen is compared with what was stated."""

import pytest
import torch
from scipy.stats import binom

from vtadl.scoring.false_alarms import all_images_sentence, normal_images_sentence
from vtadl.scoring.scorer import Scores
from vtadl.scoring.thresholds import Calibration


@pytest.fixture
def calibration():
    """Returns thresholds of a hundred normal images, of which 2.3 % and 15 % at most are to exceed them."""
    calibration, maps = Calibration(image_rate=0.01, pixel_rate=0.01), torch.rand(100, 1, 8, 8)
    maps[:10, 0, 0, 0] += 1
    calibration.fit_scores([(Scores(torch.rand(100), maps), [""] * 100)])
    calibration.pixel.set_value(1)
    assert calibration.image.false_alarm_rate.item() == pytest.approx(0.0228, abs=1e-4)
    assert calibration.pixel.image_false_alarm_rate.item() == pytest.approx(0.1493, abs=1e-2)
    return calibration


def test_more_false_alarms_than_chance_allows_are_reported(calibration):
    rate = calibration.image.false_alarm_rate.item()
    allowed = int(binom.isf(0.01, 60, rate))
    assert normal_images_sentence(calibration, allowed, 0, 60) == ""
    assert normal_images_sentence(calibration, allowed + 1, 0, 60).startswith(
        f"{allowed + 1} of 60 normal images exceed the threshold, where at most 2.3% were to: "
    )


def test_images_with_marked_pixels_are_reported_likewise(calibration):
    assert normal_images_sentence(calibration, 0, 15, 60) == ""
    said = normal_images_sentence(calibration, 0, 25, 60)
    assert said.startswith("25 of 60 normal images have a pixel above its threshold")
    assert "vtadl calibrate" in said


def test_what_agrees_with_the_stated_rate_is_seldom_reported(calibration):
    rate = calibration.image.false_alarm_rate.item()
    alarms = torch.binomial(torch.full((5000,), 60.0), torch.tensor(rate)).int().tolist()
    reported = sum(bool(normal_images_sentence(calibration, number, 0, 60)) for number in alarms)
    assert reported / 5000 < 0.01


@pytest.mark.parametrize(("anomalous", "count", "said"), [(1, 1, False), (30, 60, False), (60, 60, True)])
def test_a_prediction_doubts_only_when_more_than_half_are_alarms(calibration, anomalous, count, said):
    assert bool(all_images_sentence(calibration, anomalous, count)) == said


def test_nothing_is_said_where_nothing_was_stated_or_there_is_no_image(calibration):
    assert normal_images_sentence(calibration, 0, 0, 0) == ""
    assert all_images_sentence(calibration, 0, 0) == ""
    calibration.image.false_alarm_rate.fill_(1)
    assert all_images_sentence(calibration, 60, 60) == ""
