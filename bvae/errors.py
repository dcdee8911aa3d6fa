"""The error that a user can act on."""


class InputError(Exception):
    """A user's mistake or a bad file: one message that names it, and the remedy. Shown without a traceback."""
