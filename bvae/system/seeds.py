"""Seeds from identity: what a random number is for decides it, never the order in which jobs run."""

import hashlib
import json


def derive_seed(*identity: str | int) -> int:
    """A seed in [0, 2**63) from names and numbers, for example ("mnist", 0, "data order", epoch).

    The arm is left out of a run's identity on purpose: arms of the same data set and seed are paired.

    >>> derive_seed("mnist", 0) == derive_seed("mnist", 0) != derive_seed("mnist", 1)
    True
    """
    digest = hashlib.sha256(json.dumps(identity).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
