"""Whether the alarms that are seen agree with the rate that was stated."""

from vtadl.common.binomial import probability_of_at_least
from vtadl.scoring.thresholds import Calibration

_TESTS = 100  # in fewer than one of so many tests would chance alone bring what is reported
_PREDICTIONS = 1000  # the same of predictions, whose images nobody has labelled
REMEDY = "take the thresholds anew from normal images of today, by vtadl calibrate RUN --images FOLDER"


def normal_images_sentence(calibration: Calibration, false_alarms: int, marked: int, count: int) -> str:
    """Says that more normal images of a test are alarms than chance allows; empty if they are not.

    The stated rate is an upper bound, so that the binomial test is one-sided.

    Args:
        calibration: The thresholds, with what was stated about them.
        false_alarms: Number of normal images whose score exceeds the threshold.
        marked: Number of normal images of which a pixel exceeds its threshold.
        count: Number of normal images.
    """
    found = (
        (false_alarms, calibration.image.false_alarm_rate.item(), "exceed the threshold"),
        (marked, calibration.pixel.image_false_alarm_rate.item(), "have a pixel above its threshold"),
    )
    for number, rate, what in found:
        if probability_of_at_least(number, count, rate) < 1 / _TESTS:
            return (
                f"{number} of {count} normal images {what}, where at most {rate:.1%} were to: chance alone "
                f"brings so many in fewer than one of {_TESTS} tests, so that these images differ from those "
                f"that the threshold comes from; {REMEDY}"
            )
    return ""


def all_images_sentence(calibration: Calibration, anomalous: int, count: int) -> str:
    """Says that so many images are anomalous as if they all differed from training; empty if they are not.

    Nobody knows how many of them are normal. What is tested is that at least half of them are: the other half
    may all be detected, and the binomial test judges how many more are. If more than half of them are normal,
    what is seen is even less probable.
    """
    normal = count - count // 2
    rate = calibration.image.false_alarm_rate.item()
    if probability_of_at_least(anomalous - count // 2, normal, rate) >= 1 / _PREDICTIONS:
        return ""
    return (
        f"{anomalous} of {count} images exceed the threshold: if half of them were normal and like those "
        f"that it comes from, chance would bring so many in fewer than one of {_PREDICTIONS} cases; unless "
        f"most of them are anomalous, {REMEDY}"
    )
