"""The ranges in which numbers of the user have to lie."""

from collections.abc import Callable, Mapping

from vtadl.errors import InputError

Numbers = Mapping[str, float | None]


def require_positive(**numbers: float | None) -> None:
    """Raises InputError, which names it, unless every number that is given is more than 0."""
    _require(numbers, lambda number: number > 0, "more than 0")


def require_not_negative(**numbers: float | None) -> None:
    """Raises InputError, which names it, unless every number that is given is 0 or more."""
    _require(numbers, lambda number: number >= 0, "0 or more")


def require_fraction(**numbers: float | None) -> None:
    """Raises InputError, which names it, unless a part and the rest are both more than nothing."""
    _require(numbers, lambda number: 0 < number < 1, "between 0 and 1")


def require_less_than_all(**numbers: float | None) -> None:
    """Raises InputError, which names it, unless every number that is given is a part, or 0."""
    _require(numbers, lambda number: 0 <= number < 1, "0 or more, and less than 1")


def _require(numbers: Numbers, holds: Callable[[float], bool], range_: str) -> None:
    for name, number in numbers.items():
        if number is not None and not holds(number):
            raise InputError(f"{name} is {number}; it has to be {range_}")
