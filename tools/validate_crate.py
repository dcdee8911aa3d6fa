"""Validate RO-Crates by roc-validator without a network: `python tools/validate_crate.py FOLDER ...`.

Run by the Python of .venv/check. The validator wants the context of RO-Crate from https://w3id.org and takes it from
its cache when it is there; rocrate brings that file along, and it is put there first.
"""

import io
import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

import requests_cache
import urllib3
from requests.adapters import BaseAdapter, HTTPAdapter

CONTEXT = "https://w3id.org/ro/crate/1.3/context"


class FromRocrate(BaseAdapter):
    """Answers every request with the context that rocrate brings."""

    def send(self, request, **_):
        """The answer, as one of a server."""
        body = io.BytesIO(files("rocrate").joinpath("data/ro-crate.jsonld").read_bytes())
        kind = {"Content-Type": "application/ld+json"}
        return HTTPAdapter().build_response(
            request, urllib3.HTTPResponse(body=body, headers=kind, status=200, preload_content=False)
        )

    def close(self):
        """Nothing is open."""


def main() -> None:
    """Exit with 1 when a crate is not valid."""
    validator = Path(sys.executable).with_name("rocrate-validator")
    with tempfile.TemporaryDirectory() as folder:
        cache = f"{folder}/cache"
        with requests_cache.CachedSession(cache, expire_after=-1) as session:
            session.mount("https://w3id.org/", FromRocrate())
            session.get(CONTEXT).raise_for_status()
        for crate in sys.argv[1:]:
            command = [validator, "-y", "--disable-color", "validate", "--offline", "--cache-path", cache, crate]
            done = subprocess.run(command, capture_output=True, text=True)
            print(f"{crate}: {'valid' if done.returncode == 0 else done.stdout + done.stderr}")
            if done.returncode:
                sys.exit(1)


if __name__ == "__main__":
    main()
