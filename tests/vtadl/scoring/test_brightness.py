import pytest
import torch

from vtadl.scoring.brightness import BrightnessRange, brightness


def images_of(levels):
    return torch.as_tensor(levels, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 3, 4, 4)


def range_of(levels):
    fitted = BrightnessRange()
    for part in images_of(levels).split(7):
        fitted.update(part)
    return fitted


def draw(count, mean=0.5, deviation=0.01):
    return mean + deviation * torch.randn(count)


def test_brightness_is_the_mean_grey_level():
    assert brightness(images_of([0.25, 0.75])).tolist() == [0.25, 0.75]


def test_the_range_is_that_of_all_training_images():
    levels = draw(30)
    fitted = range_of(levels)
    expected = (levels.min().item(), levels.max().item())
    assert (fitted.low.item(), fitted.high.item()) == pytest.approx(expected)
    assert fitted.count == 30


def test_images_in_another_light_are_counted_in_one_sentence():
    sentence = range_of([0.4, 0.5, 0.6] * 10).sentence(torch.tensor([0.35] * 10 + [0.39] * 8 + [0.5] * 2))
    assert sentence == (
        "the brightness of 18 of 20 images lies outside that of training: their mean grey levels are 0.350 "
        "to 0.390, those of the training images 0.400 to 0.600; expose all images equally, or train with "
        "such images as well"
    )


@pytest.mark.parametrize("count", [1, 4, 16, 200])
@pytest.mark.parametrize("tested", [1, 5, 40, 300])
def test_images_in_the_light_of_training_are_hardly_ever_reported(count, tested):
    reported = [bool(range_of(draw(count)).sentence(draw(tested))) for _ in range(200)]
    assert sum(reported) <= 1


def test_a_shift_of_four_deviations_is_found_among_many_images():
    assert all(range_of(draw(200)).sentence(draw(40, 0.46)) for _ in range(50))


@pytest.mark.parametrize("level", [0.2, 0.8])
@pytest.mark.parametrize("count", [1, 200])
def test_a_single_image_far_outside_is_reported(level, count):
    assert "of 1 of 1 images" in range_of(draw(count)).sentence(torch.tensor([level]))


def test_a_few_anomalies_may_be_dark():
    levels = torch.cat([draw(83).clamp(0.49, 0.51), draw(17, mean=0.2)])
    assert range_of(draw(200)).sentence(levels) == ""


def test_nothing_is_said_without_images_or_without_a_range():
    assert range_of(draw(20)).sentence(torch.zeros(0)) == ""
    assert BrightnessRange().sentence(torch.zeros(9)) == ""


def test_a_state_without_a_range_leaves_it_unknown():
    fitted = BrightnessRange()
    fitted.load_state_dict({})
    assert fitted.count == 0
