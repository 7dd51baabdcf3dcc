import math

import pytest
import torch
from scipy.stats import beta

from vtadl.checkpoints import load_detector
from vtadl.errors import InputError
from vtadl.scoring.scorer import Scores
from vtadl.scoring.thresholds import Calibration, Threshold, decide


def fitted(scores, rate):
    threshold = Threshold()
    threshold.fit(scores, rate)
    return threshold


@pytest.mark.parametrize(
    ("count", "rate", "rank"),
    [(230, 0.01, 230), (387, 0.01, 387), (388, 0.01, 387), (22, 0.1, 22), (38, 0.1, 37), (37, 0.1, 37)],
)
def test_the_threshold_is_the_score_of_the_rank_that_the_rate_asks_for(count, rate, rank):
    scores = torch.randperm(count).float() + 1  # the k-th smallest is k
    threshold = fitted(scores, rate)
    assert threshold.value == rank
    known = beta.ppf(0.9, count - rank + 1, rank)
    assert threshold.false_alarm_rate.item() == pytest.approx(known)
    assert threshold.false_alarm_rate <= rate + 1e-7


def test_with_few_scores_the_threshold_is_the_largest_and_its_rate_says_so():
    threshold = fitted(torch.tensor([3.0, 1.0, 2.0]), rate=0.01)
    assert threshold.value == 3
    assert threshold.count == 3
    assert threshold.false_alarm_rate.item() == pytest.approx(1 - 0.1 ** (1 / 3))


@pytest.mark.parametrize(
    ("count", "sentence"),
    [
        (230, "threshold: with 90% confidence, at most 1.0% of new normal images exceed it"),
        (
            19,
            "threshold: with 90% confidence, at most 11.4% of new normal images exceed it; "
            "1.0% would take 230 normal images, of which there are 19",
        ),
    ],
)
def test_what_the_threshold_promises_is_said(count, sentence):
    calibration = Calibration(image_rate=0.01, pixel_rate=0.01)
    calibration.image.fit(torch.arange(float(count)), rate=0.01)
    assert calibration.sentence() == sentence


@pytest.mark.parametrize(("count", "rate"), [(30, 0.1), (100, 0.1), (100, 0.01)])
def test_the_stated_rate_holds_in_nine_of_ten_draws(count, rate):
    draws = 2000
    values = torch.rand(draws, count)  # a threshold v is exceeded with a probability of 1 - v
    thresholds = [fitted(row, rate) for row in values]
    holds = [1 - t.value <= t.false_alarm_rate for t in thresholds]
    share, deviation = torch.stack(holds).float().mean().item(), math.sqrt(0.9 * 0.1 / draws)
    assert share == pytest.approx(0.9, abs=4 * deviation)  # and the bound is no larger than it has to be


def test_the_threshold_of_another_rate_comes_from_the_same_scores():
    threshold = fitted(torch.arange(1.0, 101.0), rate=0.01)
    assert threshold.value == 100
    threshold.set_rate(0.2)
    assert threshold.value == 86
    assert threshold.false_alarm_rate.item() == pytest.approx(beta.ppf(0.9, 15, 86))
    threshold.set_value(90.5)
    assert threshold.false_alarm_rate.item() == pytest.approx(beta.ppf(0.9, 11, 90))
    assert threshold.normalise(torch.tensor([90.5])) == 0.5


def test_an_old_state_has_the_bound_of_its_rank_and_no_scores():
    state = fitted(torch.arange(1.0, 100.0), rate=0.01).state_dict()
    del state["scores"]
    state["false_alarm_rate"] = torch.tensor(0.01)  # 1 / (n + 1)
    threshold = Threshold()
    threshold.load_state_dict(state)
    assert threshold.false_alarm_rate.item() == pytest.approx(1 - 0.1 ** (1 / 99))
    with pytest.raises(InputError, match="an earlier version, which kept no scores"):
        threshold.set_rate(0.1)


def test_the_pixel_threshold_says_how_many_images_have_a_pixel_above_it():
    calibration = Calibration(image_rate=0.5, pixel_rate=0.1)
    maps = torch.rand(40, 1, 8, 8) / 2
    maps[:3, :, 0] += 1  # three images have eight bright pixels; with others they are a hundredth of all
    calibration.fit_scores([(Scores(maps.amax((1, 2, 3)), maps), [""] * 40)])
    assert calibration.pixel.false_alarm_rate.item() == pytest.approx(0.1, abs=1e-3)
    exceeding = int((maps.amax((1, 2, 3)) > calibration.pixel.value).sum())
    rate = calibration.pixel.image_false_alarm_rate.item()
    assert rate == pytest.approx(beta.ppf(0.9, exceeding + 1, 40 - exceeding) if exceeding < 40 else 1)
    assert calibration.pixel_sentence().startswith(
        f"pixel threshold: with 90% confidence, at most {rate:.1%} of new normal images have a pixel above it"
    )


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


def score_of_brightness(images):
    return Scores(images.mean((1, 2, 3)), images.mean(1, keepdim=True))


def calibrated(*names, shown=("nut", "bolt", "nut", "bolt")):
    """Returns a calibration of the categories; the images 0 to 3 show one of them each."""
    calibration = Calibration(image_rate=0.5, pixel_rate=0.5)
    calibration.set_categories(names)
    images = torch.arange(4.0).view(-1, 1, 1, 1).expand(-1, 3, 4, 4)
    batches = [
        {"image": images[part], "label": torch.zeros(2), "category": list(shown[part])}
        for part in (slice(2), slice(2, 4))
    ]
    calibration.fit(score_of_brightness, calibration.observe(batches))
    return calibration


def test_each_category_is_calibrated_by_its_own_images():
    calibration = calibrated("bolt", "nut")
    medians = {name: calibration.of(name).image.median.item() for name in ("bolt", "nut")}
    assert medians == {"bolt": 1, "nut": 0}  # the lower one of two
    assert calibration.of("nut").pixel.count == 2 * 16
    assert calibration.of("bolt").image.count == 2
    assert (calibration.of("bolt").brightness.low, calibration.of("bolt").brightness.high) == (1, 3)
    assert [sentence.partition(":")[0] for sentence in calibration.sentences()] == [
        "threshold of bolt",
        "pixel threshold of bolt",
        "threshold of nut",
        "pixel threshold of nut",
    ]


def test_a_single_category_needs_no_name():
    calibration = calibrated("bolt")
    assert calibration.of("nut") is calibration.of("") is calibration
    assert calibration.image.count == 4
    assert calibration.brightness.count == 4


@pytest.mark.parametrize(
    ("name", "sentence"), [("", "name the one that the images show"), ("cog", "none is called cog")]
)
def test_an_unknown_category_has_no_thresholds(name, sentence):
    with pytest.raises(InputError, match=f"the detector has the categories bolt, nut: {sentence}"):
        calibrated("bolt", "nut").of(name)


def test_a_category_without_validation_images_is_named():
    with pytest.raises(InputError, match="there is no validation image of cog"):
        calibrated("bolt", "nut", "cog")


def test_thresholds_of_categories_survive_a_checkpoint():
    saved, loaded = calibrated("bolt", "nut"), Calibration(image_rate=0.5, pixel_rate=0.5)
    loaded.set_categories(saved.categories)
    loaded.load_state_dict(saved.state_dict())
    assert loaded.of("nut").summary() == saved.of("nut").summary() != saved.of("bolt").summary()
