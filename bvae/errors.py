"""The error that a user can act on, and who shows it."""

from collections.abc import Collection

# An environment variable, set by the logger of workflow/logger/: it prints the end of the log of a step that fails, so
# the step does not say its error on the terminal as well.
LOGS_ARE_SHOWN = "BVAE_LOGS_ARE_SHOWN"


class InputError(Exception):
    """A user's mistake or a bad file: one message that names it, and the remedy. Shown without a traceback."""


def check_name(kind: str, name: object, known: Collection[str]) -> None:
    """Raise InputError for a name that is not known, with those that are."""
    if name not in known:
        raise InputError(f"{kind}: found '{name}', wanted one of {', '.join(known)}.")
