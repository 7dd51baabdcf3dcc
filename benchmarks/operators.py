"""The operators that are measured. Each module has `cases()`."""

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
    """Those that run at this level; the quick ones are part of the whole."""
    levels = ("quick", "full") if level == "full" else (level,)
    return [case for case in OPERATORS[operator].cases() if case.level in levels]
