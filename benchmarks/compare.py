"""Lists what became faster or slower since earlier results."""

from typing import NamedTuple

from benchmarks.results import Report, Result

# Medians that are closer than this may differ by the place of the memory alone.
_LEAST_CHANGE = 0.05


class Change(NamedTuple):
    """Seconds before and now, of the same provider in the same comparison."""

    result: Result
    before: float
    now: float


def changes(now: Report, before: Report) -> list[Change]:
    """The changes beyond noise, the largest first.

    A change is beyond noise if the medians are more than 5 % apart and the middle 60 % of times are disjoint.
    """
    old = {(result.comparison, result.provider): result for result in before.results}
    found = []
    for result in now.results:
        other = old.get((result.comparison, result.provider))
        if other is not None and _differ(result, other):
            assert result.median is not None
            assert other.median is not None
            found.append(Change(result, other.median, result.median))
    return sorted(found, key=lambda change: change.now / change.before, reverse=True)


def _differ(a: Result, b: Result) -> bool:
    if a.quantiles is None or b.quantiles is None:
        return False
    fast, slow = sorted((a.quantiles, b.quantiles), key=lambda quantiles: quantiles["50%"])
    return slow["50%"] > (1 + _LEAST_CHANGE) * fast["50%"] and slow["20%"] > fast["80%"]
