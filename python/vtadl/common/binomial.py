"""Counts of rare events among independent trials: bounds of their rate, and how improbable a count is."""

import math
from bisect import bisect_right

from vtadl.common.ranges import LARGEST

CONFIDENCE = 0.9  # with which a stated rate holds
_BISECTIONS = 60


def probability_of_at_most(events: int, trials: int, rate: float) -> float:
    """Computes the probability of this number of events or fewer among independent trials."""
    if events >= trials or rate <= 0:
        return 1.0
    if rate >= 1:
        return 0.0
    log_rate, log_other = math.log(rate), math.log1p(-rate)
    log_ways = math.lgamma(trials + 1)
    return min(
        1.0,
        math.fsum(
            math.exp(
                log_ways
                - math.lgamma(count + 1)
                - math.lgamma(trials - count + 1)
                + count * log_rate
                + (trials - count) * log_other
            )
            for count in range(events + 1)
        ),
    )


def probability_of_at_least(events: int, trials: int, rate: float) -> float:
    """Computes the probability of this number of events or more among independent trials."""
    return 1.0 if events <= 0 else probability_of_at_most(trials - events, trials, 1 - rate)


def upper_bound(events: int, trials: int, confidence: float = CONFIDENCE) -> float:
    """Bounds the rate of events from above (Clopper and Pearson, 1934).

    The true rate is at most the bound with the given confidence, whatever it is.
    """
    low, high = events / max(trials, 1), 1.0
    if events >= trials:
        return high
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if probability_of_at_most(events, trials, middle) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def allowed_events(trials: int, rate: float, confidence: float = CONFIDENCE) -> int:
    """The largest number of events for which :func:`upper_bound` is at most `rate`; 0 if there is none."""
    limit = 1 - confidence + 1e-9
    first_too_many = bisect_right(range(trials), limit, key=lambda x: probability_of_at_most(x, trials, rate))
    return max(0, first_too_many - 1)


def needed_trials(rate: float, confidence: float = CONFIDENCE) -> int:
    """The number of trials without an event that bounds the rate by `rate`."""
    return max(1, math.ceil(min(math.log(1 - confidence) / math.log1p(-rate), LARGEST) - 1e-9))
