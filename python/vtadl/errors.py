"""What a user can get wrong."""


class InputError(ValueError):
    """A file, folder or setting that cannot be used; the message is one sentence for the user."""
