"""The error that a user can act on."""

from collections.abc import Collection


class InputError(Exception):
    """A user's mistake or a bad file: one message that names it, and the remedy. Shown without a traceback."""


def check_name(kind: str, name: object, known: Collection[str]) -> None:
    """Raise InputError for a name that is not known, with those that are."""
    if name not in known:
        raise InputError(f"{kind}: found '{name}', wanted one of {', '.join(known)}.")
