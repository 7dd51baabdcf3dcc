"""The operators that are measured. Each module has `cases()`."""

from dataclasses import replace

from benchmarks import gmm, linear_gmm, prediction, reconstruction, ssim, training_step
from benchmarks.case import Case, Level

OPERATORS = {
    "gmm": gmm,
    "linear_gmm": linear_gmm,
    "ssim": ssim,
    "reconstruction": reconstruction,
    "training_step": training_step,
    "prediction": prediction,
}


def cases_of(operator: str, level: Level) -> list[Case]:
    """The cases that run at this level.

    The full level includes the quick cases; at the quick level each case runs in its last mode alone.
    """
    levels = ("quick", "full") if level == "full" else (level,)
    cases = [case for case in OPERATORS[operator].cases() if case.level in levels]
    return [replace(case, modes=case.modes[-1:]) for case in cases] if level == "quick" else cases
