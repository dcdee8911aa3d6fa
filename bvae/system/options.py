"""Options as they are written on a command line."""

from collections.abc import Mapping

IMAGE_OPTIONS = ("size", "mode", "crop", "test_fraction", "labels", "skip_corrupt")  # of folders and zips of images


def as_flag(option: str) -> str:
    """The flag of an option.

    >>> as_flag("test_fraction")
    '--test-fraction'
    """
    return f"--{option.replace('_', '-')}"


def said_of_source(source: str, options: Mapping[str, object]) -> str:
    """What a data set file says that it was made from: the source, and the options that were given.

    >>> said_of_source("folder:birds", {"size": 64, "validation": None})
    'folder:birds --size 64'
    """
    return " ".join([source, *as_flags(options)])


def as_flags(options: Mapping[str, object]) -> list[str]:
    """Each option that was given, with its value if it is no switch.

    >>> as_flags({"size": 64, "crop": None, "skip_corrupt": True})
    ['--size 64', '--skip-corrupt']
    """
    given = {as_flag(name): value for name, value in options.items() if value is not None and value is not False}
    return [flag if value is True else f"{flag} {value}" for flag, value in given.items()]
