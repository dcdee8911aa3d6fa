"""Records that the files of a folder hold: each file is imported, and enters its own."""

from collections.abc import Iterable
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from bvae.errors import InputError

ENTERED: set[str] = set()  # modules


def enter(records: dict[str, Any], record: Any, home: str) -> None:
    """Enter a record by its `name`; InputError names the module `home` when another record has it."""
    if record.name in records:
        raise InputError(f"{home}: the name '{record.name}' is taken: choose another")
    records[record.name] = record
    ENTERED.add(home)


def import_files(package: str, folders: Iterable[str]) -> None:
    """Import the modules of a package in the order of their names, but those whose name begins with "_".

    Raises InputError for a module that enters nothing.
    """
    for name in sorted(module.name for module in iter_modules(folders)):
        if not name.startswith("_") and import_module(f"{package}.{name}").__name__ not in ENTERED:
            raise InputError(
                f"{package}.{name}: expected a function or class with the decorator of {package}, found none. Add it,"
                f" or call the file _{name}.py."
            )


def check_version(version: object, home: str) -> None:
    """Raise InputError, which names the module `home`, for a version that is not a whole number from 1 on."""
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise InputError(f"{home}: found the version {version!r}, wanted a whole number from 1 on")
