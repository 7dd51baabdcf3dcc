"""Markdown tables of what was reached, and of the regret."""

from collections.abc import Sequence
from statistics import mean, stdev

from benchmarks.choice.regret import Qualities, Results, leave_one_out, regret


def tables(results: Results) -> str:
    """The qualities of experts and procedures by data set, and below them their regret."""
    names = list(dict.fromkeys(name for runs in results.values() for name in runs[0]))
    qualities = [[name, *(_quality(runs, name) for runs in results.values())] for name in names]
    regrets = []
    for name in names:
        values = [regret(runs, name) if name in runs[0] else None for runs in results.values()]
        regrets.append([name, *map(_number, values), _number(_mean(values))])
    chosen = leave_one_out(results)
    left_out = [value for _, value in chosen.values()]
    regrets.append(["fixed on the others", *(name for name, _ in chosen.values()), ""])
    regrets.append(["regret of that one", *map(_number, left_out), _number(mean(left_out))])
    header = ["image AUROC / pixel AUROC / AUPRO", *results]
    return _table([header, *qualities]) + "\n\n" + _table([["regret", *results, "mean"], *regrets])


def _quality(runs: Sequence[Qualities], name: str) -> str:
    """The means of the metrics over seeds, with their standard deviations if there are several seeds."""
    if name not in runs[0]:
        return ""
    metrics = zip(*(qualities[name] for qualities in runs), strict=True)
    return " / ".join(_number(mean(x)) + (f" ± {stdev(x):.3f}" if len(x) > 1 else "") for x in metrics)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return mean(known) if len(known) == len(values) else None


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])
