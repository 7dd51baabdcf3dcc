import math

import pytest
import torch

from vtadl.checkpoints import load_detector
from vtadl.scoring.scorer import Scores
from vtadl.scoring.thresholds import Calibration, Threshold, decide


def fitted(scores, rate):
    threshold = Threshold()
    threshold.fit(scores, rate)
    return threshold


@pytest.mark.parametrize(
    ("count", "rate", "rank"), [(99, 0.01, 99), (199, 0.01, 198), (19, 0.1, 18), (20, 0.1, 19)]
)
def test_the_threshold_is_the_score_of_the_rank_that_the_rate_asks_for(count, rate, rank):
    scores = torch.randperm(count).float() + 1  # the k-th smallest is k
    threshold = fitted(scores, rate)
    assert threshold.value == rank
    assert threshold.false_alarm_rate.item() == pytest.approx(1 - rank / (count + 1))
    assert threshold.false_alarm_rate <= rate + 1e-7


def test_with_few_scores_the_threshold_is_the_largest_and_its_rate_says_so():
    threshold = fitted(torch.tensor([3.0, 1.0, 2.0]), rate=0.01)
    assert threshold.value == 3
    assert threshold.count == 3
    assert threshold.false_alarm_rate == 0.25


@pytest.mark.parametrize(
    ("count", "sentence"),
    [
        (99, "threshold: a new normal image exceeds it with a probability of 1.0% at most"),
        (
            19,
            "threshold: a new normal image exceeds it with a probability of 5.0% at most; "
            "1.0% would take 99 validation images, of which there are 19",
        ),
    ],
)
def test_what_the_threshold_promises_is_said(count, sentence):
    calibration = Calibration(image_rate=0.01, pixel_rate=0.01)
    calibration.image.fit(torch.arange(float(count)), rate=0.01)
    assert calibration.sentence() == sentence


def test_new_normal_scores_exceed_the_threshold_as_often_as_stated():
    draws, count = 4000, 29
    scores = torch.randn(draws, count + 1).exp()
    alarms = [row[-1] > fitted(row[:-1], rate=0.1).value for row in scores]
    rate, deviation = torch.stack(alarms).float().mean(), math.sqrt(0.1 * 0.9 / draws)
    assert rate.item() == pytest.approx(0.1, abs=4 * deviation)


def test_normalised_scores_keep_the_order_and_are_half_at_the_threshold():
    threshold = fitted(torch.arange(1.0, 100.0), rate=0.01)
    scores = torch.tensor([-1e6, 0.0, 50.0, 98.0, 99.0, 100.0, 148.0, 1e4])
    normalised = threshold.normalise(scores)
    assert (normalised.diff() > 0).all()
    assert ((normalised >= 0) & (normalised <= 1)).all()
    assert normalised[4] == 0.5
    assert normalised[2] == 0.25  # the median
    assert normalised[6] == 0.75


def test_equal_scores_are_normal():
    threshold = fitted(torch.full((10,), 2.0), rate=0.1)
    assert threshold.normalise(torch.tensor([2.0])) == 0.5


def test_decisions_follow_the_thresholds_in_the_size_of_the_image():
    calibration = Calibration(image_rate=0.5, pixel_rate=0.5)
    calibration.image.fit(torch.tensor([0.0, 1.0, 2.0]), 0.5)
    calibration.pixel.fit(torch.tensor([0.0, 1.0, 2.0]), 0.5)
    maps = torch.zeros(2, 1, 4, 4)
    maps[1, :, :2] = 3
    decisions = decide(calibration, Scores(torch.tensor([0.5, 5.0]), maps), (8, 12))
    assert decisions.anomalous.tolist() == [False, True]
    assert decisions.map.shape == decisions.mask.shape == (2, 8, 12)
    assert not decisions.mask[0].any()
    assert decisions.mask[1, :3].all()
    assert not decisions.mask[1, 5:].any()
    assert torch.equal(decisions.mask, decisions.map > calibration.pixel.value)


def test_training_leaves_the_thresholds_of_its_validation_images_in_the_checkpoint(trained, monkeypatch):
    from vtadl.data import MVTecAD

    detector = load_detector(trained / "best.ckpt")
    data = MVTecAD(str(trained / "parts"), image_size=32, workers=0)
    data.setup("fit")
    images = torch.stack([sample["image"] for sample in data.val_set])
    with torch.inference_mode():
        scores = detector(images)
    assert detector.calibration.image.count == len(images) == 2
    assert detector.calibration.image.value.item() == pytest.approx(scores.image.max().item(), rel=1e-4)
    expected = scores.map.flatten().kthvalue(round(0.99 * scores.map.numel())).values
    assert detector.calibration.pixel.value.item() == pytest.approx(expected.item(), rel=0.05)
