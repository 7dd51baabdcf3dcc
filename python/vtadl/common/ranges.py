"""Checks of the ranges of numbers that a user gives."""

from collections.abc import Callable, Mapping

from vtadl.errors import InputError

Numbers = Mapping[str, float | None]
LARGEST = 1e18  # larger numbers lead to overflows


def require_positive(**numbers: float | None) -> None:
    """Raises InputError, which names the number, unless all numbers but None are positive and finite."""
    _require(numbers, lambda number: 0 < number < LARGEST, f"more than 0, and less than {LARGEST:g}")


def require_not_negative(**numbers: float | None) -> None:
    """Raises InputError, which names the number, unless all numbers but None are 0 or more and finite."""
    _require(numbers, lambda number: 0 <= number < LARGEST, f"0 or more, and less than {LARGEST:g}")


def require_at_most(limit: int, **numbers: float | None) -> None:
    """Raises InputError, which names the number, unless all numbers but None are `limit` or less."""
    _require(numbers, lambda number: number <= limit, f"{limit} or less")


def require_fraction(**numbers: float | None) -> None:
    """Raises InputError, which names the number, unless all numbers but None lie between 0 and 1."""
    _require(numbers, lambda number: 0 < number < 1, "between 0 and 1")


def require_less_than_all(**numbers: float | None) -> None:
    """Raises InputError, which names the number, unless all numbers but None are 0 or more, below 1."""
    _require(numbers, lambda number: 0 <= number < 1, "0 or more, and less than 1")


def _require(numbers: Numbers, holds: Callable[[float], bool], range_: str) -> None:
    for name, number in numbers.items():
        if number is not None and not holds(number):
            raise InputError(f"{name} is {number}; it has to be {range_}")
