"""The errors of this package."""


class InputError(ValueError):
    """A file, folder or setting that cannot be used; the message is one sentence for the user."""


class UsageError(InputError):
    """A command whose arguments are incomplete or contradict one another."""


class DivergenceError(RuntimeError):
    """The loss or weights of a training are not finite; the message names them."""


def input_error(error: BaseException | None) -> InputError | None:
    """The input error that caused another error, because a parser wraps errors of an option's class."""
    while error is not None and not isinstance(error, InputError):
        error = error.__cause__ or error.__context__
    return error
