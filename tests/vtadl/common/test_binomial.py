import pytest
from scipy.stats import beta, binom

from vtadl.common.binomial import (
    allowed_events,
    needed_trials,
    probability_of_at_least,
    probability_of_at_most,
    upper_bound,
)


@pytest.mark.parametrize("trials", [1, 7, 300, 5000])
@pytest.mark.parametrize("rate", [0.001, 0.03, 0.5, 0.99])
def test_probabilities_are_those_of_the_binomial_distribution(trials, rate):
    for events in {0, 1, trials // 100, trials // 2, trials - 1, trials}:
        assert probability_of_at_most(events, trials, rate) == pytest.approx(
            binom.cdf(events, trials, rate), rel=1e-6, abs=1e-300
        )
        assert probability_of_at_least(events, trials, rate) == pytest.approx(
            binom.sf(events - 1, trials, rate), rel=1e-6, abs=1e-300
        )


@pytest.mark.parametrize(("events", "trials"), [(0, 1), (0, 229), (3, 50), (49, 50), (40, 5000)])
def test_the_bound_is_that_of_clopper_and_pearson(events, trials):
    assert upper_bound(events, trials) == pytest.approx(beta.ppf(0.9, events + 1, trials - events))


def test_events_in_every_trial_bound_nothing():
    assert upper_bound(5, 5) == upper_bound(0, 0) == 1


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.2])
def test_the_needed_trials_are_the_fewest_that_bound_the_rate(rate):
    count = needed_trials(rate)
    assert upper_bound(0, count) <= rate + 1e-9 < upper_bound(0, count - 1)


@pytest.mark.parametrize("trials", [1, 20, 230, 389, 2000])
def test_the_allowed_events_are_the_most_that_keep_the_rate(trials):
    allowed = allowed_events(trials, 0.01)
    assert upper_bound(allowed + 1, trials) > 0.01
    assert allowed == 0 or upper_bound(allowed, trials) <= 0.01 + 1e-9
