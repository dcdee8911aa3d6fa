"""Locks that die with the process that holds them, so that a kill leaves nothing to clear by hand."""

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from bvae.errors import InputError

log = logging.getLogger(__name__)


@contextlib.contextmanager
def held_alone(path: str | Path) -> Iterator[bool]:
    """Hold the lock file `path` during the block, waiting while another process holds it; yields whether it waited.

    The lock is the kernel's: it ends with the process that holds it, however that ends, and a file that a killed one
    left is taken over. Where a file system knows no locks, a warning says so and the block runs without. Raises
    InputError when the file cannot be written.
    """
    path, waited = Path(path), False
    while True:
        handle = _open(path)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not waited:
                log.warning("%s: held by process %s; waits until that process ends", path, _holder(handle))
            waited = True
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            log.warning("%s: this file system has no locks (%s); goes on without one", path, error)
            break
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(path), os.fstat(handle)):  # else its holder has removed it meanwhile
                break
        os.close(handle)
    try:
        _sign(handle)
        yield waited
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def is_held(path: str | Path) -> bool:
    """Whether a living process holds the lock file `path`; False where the file system has no locks."""
    try:
        with open(path, encoding="utf-8") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def clear_stale_locks(folder: Path) -> int | None:
    """Remove the locks that killed Snakemakes left in `folder`, its `.snakemake`, when no other is at work there.

    Snakemake's own locks are files without a process id: live and stale look alike. So every Snakemake of this workflow
    holds the kernel's lock of `folder`/bvae.lock, shared, until it ends. One that can have it alone is the only one,
    and what is locked is stale. Returns the open file, to be kept; None where the file system has no locks. Raises
    InputError when `folder` cannot be written.
    """
    handle = _open(folder / "bvae.lock")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.warning("another snakemake is at work in this folder, process %s: what it makes is locked", _holder(handle))
    except OSError as error:
        log.warning("%s: no locks on this file system (%s); after a kill, run snakemake --unlock", folder, error)
        os.close(handle)
        return None
    else:
        stale = list((folder / "locks").glob("*.lock"))
        for path in stale:
            path.unlink()
        if stale:
            log.warning("the locks that a killed snakemake left in this folder are removed")
        _sign(handle)
    fcntl.flock(handle, fcntl.LOCK_SH)
    return handle


def _open(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        remedy = "It may be another user's, or the disk may be full or read-only. Use a folder of your own."
        raise InputError(f"{path}: cannot be locked ({error.strerror}). {remedy}") from None


def _sign(handle: int) -> None:
    """Write who holds the lock into its file."""
    os.truncate(handle, 0)
    os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)


def _holder(handle: int) -> str:
    return os.pread(handle, 20, 0).decode(errors="replace").strip() or "unknown"
