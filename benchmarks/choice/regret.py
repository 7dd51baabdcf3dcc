"""The regret of a procedure: how much better than its choice the best expert would have been."""

from collections.abc import Mapping, Sequence
from statistics import mean

from benchmarks.choice.procedures import PROCEDURES

Qualities = dict[str, list[float]]  # the metrics of a data set, by expert or procedure
Results = Mapping[str, Sequence[Qualities]]  # by data set, for several seeds


def regret(runs: Sequence[Qualities], name: str) -> float:
    """Mean over seeds of how much better the best expert of a set, which only labels tell, is than another.

    The other is what a procedure chose, or an expert that is taken for every set.
    """

    def best(qualities: Qualities) -> float:
        return max(mean(values) for expert, values in qualities.items() if expert not in PROCEDURES)

    return mean(best(qualities) - mean(qualities[name]) for qualities in runs)


def leave_one_out(results: Results) -> dict[str, tuple[str, float]]:
    """For each set, the procedure of the least mean regret on the others, and its regret on the set."""
    chosen = {}
    for name, runs in results.items():
        others = [other for other_name, other in results.items() if other_name != name] or [runs]
        best = min(PROCEDURES, key=lambda procedure: mean(regret(other, procedure) for other in others))
        chosen[name] = (best, regret(runs, best))
    return chosen
