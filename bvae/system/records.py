"""Records that the files of a folder hold: each file is imported, and enters its own."""

from collections.abc import Iterable
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from bvae.errors import InputError


def enter(records: dict[str, Any], record: Any, home: str) -> None:
    """Enter a record by its `name`; InputError names the module `home` when another record has it."""
    if record.name in records:
        raise InputError(f"{home}: the name '{record.name}' is taken: choose another")
    records[record.name] = record


def import_files(package: str, folders: Iterable[str]) -> None:
    """Import the modules of a package in the order of their names, but those whose name begins with "_"."""
    for name in sorted(module.name for module in iter_modules(folders)):
        if not name.startswith("_"):
            import_module(f"{package}.{name}")
