"""What files hold, looked up once: for comparing many results with what they were made from."""

import contextlib
import json
import os
import stat
import time
from pathlib import Path
from typing import Any

from bvae.errors import InputError
from bvae.system.files import read_facts, read_json, sha256_of_file, write_text

JUST_WRITTEN = 2 * 10**9  # nanoseconds


class Contents:
    """The JSON, the facts and the hashes of the files below a folder, each read once.

    Hashes are kept in a file with the size, the inode and the times of what was hashed, as git keeps them. One of these
    times is that of the last change of the file's entry, which no program can set: a file that was replaced by an older
    one is hashed again. Clocks of file systems are coarse, so hashes of files that have just been written are not kept.
    """

    def __init__(self, root: Path, kept: Path | None = None):
        self.root, self.kept = root, kept
        self.read: dict[str, Any] = {}
        self.hashes: dict[str, list] = {}
        self.changed = False
        if kept is not None and kept.exists():
            with contextlib.suppress(InputError):
                known = read_json(kept)
                if isinstance(known, dict) and all(isinstance(entry, list) for entry in known.values()):
                    self.hashes = known

    def exists(self, path: str) -> bool:
        """Whether there is such a file."""
        return os.path.exists(self.root / path)

    def facts(self, path: str) -> dict:
        """What a JSON file says, or what a safetensors file says of itself. InputError where it is damaged."""
        if path not in self.read:
            file = self.root / path
            facts = read_facts(file) if file.suffix == ".safetensors" else read_json(file)
            if not isinstance(facts, dict):
                raise InputError(f"{file}: expected an object of JSON, found {str(facts)[:40]}. Delete this file.")
            self.read[path] = facts
        return self.read[path]

    def sha256(self, path: str) -> str | None:
        """SHA-256 of a file's bytes; None if there is no such file."""
        try:
            found = os.stat(self.root / path)
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(found.st_mode):
            return None
        stamp = [found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns]
        if (known := self.hashes.get(path)) is None or known[:-1] != stamp:
            known = self.hashes[path] = [*stamp, sha256_of_file(self.root / path)]
            self.changed = True
        return known[-1]

    def keep(self) -> None:
        """Write the hashes for the next time."""
        if self.kept is not None and self.changed:
            before = time.time_ns() - JUST_WRITTEN
            write_text(self.kept, json.dumps({path: known for path, known in self.hashes.items() if known[3] < before}))
