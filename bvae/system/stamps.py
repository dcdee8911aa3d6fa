"""Stamps: files by which Snakemake sees that a result is outdated.

Snakemake makes a result again when one of its inputs is newer, whatever else it is told to look at. So every rule has a
stamp as an input: it is newer than the result if the result is outdated, and older than any result if not.
"""

import hashlib
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

FOLDER = Path(".snakemake/stamps")
OLD = 86_400  # seconds: a day in 1970


def stamp_of(result: str) -> str:
    """The stamp of a result, by the result's path."""
    return f"{FOLDER}/{hashlib.sha256(result.encode()).hexdigest()[:20]}"


def set_stamps(results: Iterable[str], outdated: Mapping[str, str]) -> None:
    """Write the stamps of some results, by their paths; `outdated` has the reasons of those that are."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    times = {entry.name: entry.stat().st_mtime for entry in os.scandir(FOLDER)}
    for result in results:
        stamp = stamp_of(result)
        if result in outdated:  # another content each time: Snakemake remembers the last one's checksum
            _write(stamp, f"{result} {outdated[result]} ({time.time_ns()})\n")
            if os.path.exists(result) and os.stat(result).st_mtime >= os.stat(stamp).st_mtime:  # a clock that jumped
                os.utime(stamp, (os.stat(result).st_mtime + 1,) * 2)
        elif times.get(os.path.basename(stamp)) != OLD:
            _write(stamp, "")
            os.utime(stamp, (OLD, OLD))


def _write(path: str, text: str) -> None:
    """Write a small file. There is one for each result, so this does no more than it must.

    It is cut to its length after writing, because on ext4 a millisecond went into emptying it before.
    """
    content = text.encode()
    handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
    os.write(handle, content)
    os.ftruncate(handle, len(content))
    os.close(handle)
