"""Which GPU a job uses, and how many jobs share one: Snakemake's local executor does not say.

A card has slots. A job takes a slot by locking a file. The kernel releases the lock when the process exits, even when
it is killed, so no slot is ever lost.
"""

import contextlib
import fcntl
import glob
import itertools
import logging
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bvae.errors import InputError

log = logging.getLogger(__name__)

# One training job leaves most of a large card idle, and four about fill it. A small card may have the memory of one.
LARGE_CARD_MIB = 40 * 1024
SLOTS_OF_A_LARGE_CARD = 4
SLOTS_VARIABLE = "BVAE_GPU_SLOTS"  # of each card, in place of the numbers above
JOB_VARIABLES = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID")  # by which a scheduler tells a job its name
QUERY = ["nvidia-smi", "--query-gpu=index,uuid,memory.total,mig.mode.current", "--format=csv,noheader,nounits"]


@dataclass
class _Lease:
    """The card of this process, and the descriptor whose lock is its slot while it holds one."""

    folder: Path  # of the locks
    card: str
    slots: int
    poll: float  # seconds
    held: int | None = None

    def take(self) -> None:
        """Wait for a slot of the card."""
        _, self.held = _wait_for_slot(self.folder, {self.card: self.slots}, self.poll)

    def release(self) -> None:
        """Give the slot back, if one is held."""
        if self.held is not None:
            fcntl.flock(self.held, fcntl.LOCK_UN)  # not only closed: a forked child may have a copy of the descriptor
            os.close(self.held)
        self.held = None


_lease: _Lease | None = None
_taking = threading.Lock()


def visible_cards() -> dict[str, int]:
    """The number of slots of each card that this process may use, by the card's name; empty without a GPU.

    A name is the card's number, or what CUDA_VISIBLE_DEVICES says. A card with more than 40 GiB has 4 slots. A smaller
    card, a part of a card (MIG) and a card that nvidia-smi does not list have 1. BVAE_GPU_SLOTS replaces these numbers.
    Raises InputError if BVAE_GPU_SLOTS is no whole number of at least 1.
    """
    listed = _listed_cards()
    count = len(listed) or len(glob.glob("/dev/nvidia[0-9]*"))
    names = [str(number) for number in range(count)]
    if count and (chosen := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        # CUDA ignores all that follows the first name that is none, as "-1" or "NoDevFiles"
        given = (name.strip() for name in chosen.split(","))
        names = [*itertools.takewhile(lambda name: name.isdigit() or name.startswith(("GPU-", "MIG-")), given)]
    fixed = _slots_from_environment()
    return {name: fixed or _slots_of(name, listed) for name in names}


def _listed_cards() -> list[list[str]]:
    """Index, UUID, memory in MiB and MIG mode of each card of the machine; empty where nvidia-smi does not tell."""
    try:
        said = subprocess.run(QUERY, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[field.strip() for field in line.split(",")] for line in said.splitlines()]
    return [row for row in rows if len(row) == 4]


def _slots_of(name: str, listed: list[list[str]]) -> int:
    for index, uuid, memory, mig in listed:
        if name == index or (name.startswith("GPU-") and uuid.startswith(name)):  # CUDA takes the beginning of a UUID
            large = memory.isdigit() and int(memory) > LARGE_CARD_MIB and mig != "Enabled"
            return SLOTS_OF_A_LARGE_CARD if large else 1
    return 1


def _slots_from_environment() -> int | None:
    text = os.environ.get(SLOTS_VARIABLE)
    if not text:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise InputError(
            f"{SLOTS_VARIABLE}: expected the number of jobs that share a GPU, at least 1, got '{text}'. Correct it, or"
            f" unset it: a GPU with more than 40 GiB then has {SLOTS_OF_A_LARGE_CARD} slots, a smaller one 1."
        )
    return int(text)


@contextlib.contextmanager
def lease_gpu(*, hold: bool = True, poll: float = 0.2) -> Iterator[str | None]:
    """Use the least used card during the block, and hide the others from this process; yields its name.

    Yields None without a GPU. With `hold` it waits until a card has a free slot, asking every `poll` seconds, and holds
    the slot until the block or the process ends. Without `hold` it does not wait; the process then takes a slot of its
    card in each block of `slot()`.

    The choice of the card comes first in both cases, because CUDA reads CUDA_VISIBLE_DEVICES only once in a process,
    when it starts. Enter this block before anything asks CUDA for its devices. Where no lock can be made, a warning
    says so and the process goes on without a slot. Raises InputError if BVAE_GPU_SLOTS is not valid.
    """
    global _lease
    _lease = _choose_card(hold, poll)
    try:
        yield None if _lease is None else _lease.card
    finally:
        if _lease is not None:
            _lease.release()
        _lease = None


@contextlib.contextmanager
def slot() -> Iterator[bool]:
    """Hold a slot of this process's card during the block, waiting for a free one; yields whether it took one here.

    It takes none where the process already holds one, and none where `lease_gpu` has chosen no card.
    """
    with _taking:  # if two threads took a slot at once, the first would never be given back
        taken = _lease if _lease is not None and _lease.held is None else None
        if taken is not None:
            taken.take()
    try:
        yield taken is not None
    finally:
        if taken is not None:
            taken.release()


def leased_card() -> str | None:
    """The card that `lease_gpu` has chosen for this process."""
    return None if _lease is None else _lease.card


def _choose_card(hold: bool, poll: float) -> _Lease | None:
    if not (cards := visible_cards()):
        return None
    folder = _folder()
    try:
        if hold:
            card, held = _wait_for_slot(folder, cards, poll)
        else:
            with _free_slots(folder, cards) as free:
                card, held = _least_used(folder, cards, free), None
    except OSError as error:
        log.warning("jobs share the GPUs without slots: %s cannot be locked (%s)", folder, error.strerror)
        return None
    if "CUDA_VISIBLE_DEVICES" not in os.environ:  # else the numbers are those of who set it
        os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # the numbers of nvidia-smi, which told their memory
    os.environ["CUDA_VISIBLE_DEVICES"] = card
    log.info("uses GPU %s of %s; it has slots for %d jobs", card, ", ".join(cards), cards[card])
    return _Lease(folder, card, cards[card], poll, held)


def _folder() -> Path:
    """Where the locks are.

    A scheduler may call the card of each of its jobs 0, although it gave them different cards. So each job to which it
    gave cards has its own folder, and only processes of the same job share slots.
    """
    job = ""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        job = next((f"-{os.environ[name]}" for name in JOB_VARIABLES if os.environ.get(name)), "")
    return Path(tempfile.gettempdir()) / f"bvae-gpus-{os.getuid()}{job}".replace("/", "_")


def _wait_for_slot(folder: Path, cards: Mapping[str, int], poll: float) -> tuple[str, int]:
    """The least used of the cards that have a free slot, and the descriptor whose lock is this slot."""
    waits = False
    while True:
        with _free_slots(folder, cards) as free:
            if open_cards := {card: count for card, count in cards.items() if free[card]}:
                card = _least_used(folder, open_cards, free)
                return card, free[card].pop()
        if not waits:
            log.info("waits for a slot: other jobs have all slots of GPU %s", ", ".join(cards))
            waits = True
        time.sleep(poll)


def _least_used(folder: Path, cards: Mapping[str, int], free: Mapping[str, list[int]]) -> str:
    """The card with the smallest share of its slots taken; among equals the one that was chosen longest ago.

    The time matters for processes that do not hold a slot yet: without it all of them would choose the first card.
    """

    def use(card: str) -> tuple[float, int]:
        return 1 - len(free[card]) / cards[card], _place(folder, card).stat().st_mtime_ns

    card, now = min(cards, key=use), time.time_ns()
    os.utime(_place(folder, card), ns=(now, now))
    return card


def _place(folder: Path, card: str) -> Path:
    """The folder of a card's slots; its time stamp says when the card was chosen last."""
    return folder / f"gpu-{card.replace('/', '_')}"


@contextlib.contextmanager
def _free_slots(folder: Path, cards: Mapping[str, int]) -> Iterator[dict[str, list[int]]]:
    """Lock all free slots of the cards during the block; yields their descriptors by card.

    To keep a slot, take its descriptor out of the list. One process at a time does this. So a slot never seems taken
    only because another process looks at it, and two processes never choose a card by the same counts.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    free: dict[str, list[int]] = {card: [] for card in cards}
    with open(folder / "gate.lock", "w") as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)
        try:
            for card, count in cards.items():
                _place(folder, card).mkdir(exist_ok=True)
                for number in range(count):
                    handle = os.open(_place(folder, card) / f"{number}.lock", os.O_RDWR | os.O_CREAT, 0o600)
                    try:
                        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except BlockingIOError:
                        os.close(handle)
                    else:
                        free[card].append(handle)
            yield free
        finally:
            for handle in itertools.chain(*free.values()):
                os.close(handle)
