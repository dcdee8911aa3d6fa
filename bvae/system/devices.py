"""Which GPU a job may use, when several jobs share a machine that has several: Snakemake's local executor does not say.

A process takes a card by a lock that it never closes, and that ends with it, however it ends. What a scheduler chose
stays chosen.
"""

import fcntl
import glob
import logging
import os
import tempfile
import time
from pathlib import Path

log = logging.getLogger(__name__)


def visible_gpus() -> list[str]:
    """The cards that this process may use: those that CUDA_VISIBLE_DEVICES names, else all of the machine."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [device.strip() for device in named.split(",") if device.strip()]
    return [str(number) for number in range(len(glob.glob("/dev/nvidia[0-9]*")))]


def lease_gpu(poll: float = 1.0) -> str | None:
    """Take one of several visible GPUs until this process ends, and hide the others from it; its name, if one is taken.

    With one GPU or none there is nothing to choose, and no lock: jobs then share a card as far as the `gpu` resource
    lets them. Where all are taken it waits, asking every `poll` seconds. Call it before anything starts CUDA.
    """
    devices = visible_gpus()
    if len(devices) <= 1:
        return None
    folder = Path(tempfile.gettempdir()) / f"bvae-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    waiting = False
    while True:
        for device in devices:
            lock = os.open(folder / f"{device.replace('/', '_')}.lock", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                continue
            os.environ["CUDA_VISIBLE_DEVICES"] = device
            log.info("takes GPU %s of %s", device, ", ".join(devices))
            return device
        if not waiting:
            log.info("all of the GPUs %s are taken by other jobs: waits for one", ", ".join(devices))
            waiting = True
        time.sleep(poll)
