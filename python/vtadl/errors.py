"""What can go wrong, by who has to act."""


class InputError(ValueError):
    """A file, folder or setting that cannot be used; the message is one sentence for the user."""


class UsageError(InputError):
    """A command that lacks what it needs."""


class DivergenceError(RuntimeError):
    """Training came to a loss or weights that are no numbers; the message says which."""


def input_error(error: BaseException | None) -> InputError | None:
    """The input error behind another error: a parser wraps what the class of an option raises."""
    while error is not None and not isinstance(error, InputError):
        error = error.__cause__ or error.__context__
    return error
