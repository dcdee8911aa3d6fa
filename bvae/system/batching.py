"""Computing on a GPU that other jobs use too, and in parts where its memory does not suffice.

How many rows are computed at once is fixed by the caller, for each kind of device. It does not depend on how much
memory is free, so cards with enough memory compute the same batches. A smaller card computes halves: the last digits of
its numbers may differ, but it needs no setting, and it does not fail. (One thing is up to cuDNN: where memory is too
short for the fastest way to compute a convolution, it takes another, which may have other last digits.)
"""

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import Tensor

from bvae.errors import out_of_gpu_memory
from bvae.system.devices import slot

T = TypeVar("T")
log = logging.getLogger(__name__)


@contextlib.contextmanager
def on_card() -> Iterator[None]:
    """Hold a slot of this process's GPU during the block, if the process does not hold one already.

    An evaluation computes on the GPU and on the CPU in turns. It takes a slot for each turn on the GPU only, so that
    another job can use the GPU meanwhile. At the end of a turn it also frees the memory that torch keeps for later.
    """
    with slot() as taken:
        yield
        if taken:
            torch.cuda.empty_cache()


def in_batches(compute: Callable[..., T], *rows: Tensor, size: int) -> list[T]:
    """The results of `compute(*batch)` for the batches of `size` rows, in order, computed on a slot of the GPU.

    If a batch does not fit into the memory of a GPU, its two halves are computed, and a warning says so. The result of
    a row must not depend on the other rows, except that its last digits may depend on how many there are.
    Raises torch's error when a single row does not fit.
    """
    batches = zip(*(tensor.split(size) for tensor in rows), strict=True)
    with on_card():
        return [part for batch in batches for part in _in_halves(compute, *batch)]


def _in_halves(compute: Callable[..., T], *rows: Tensor) -> list[T]:
    try:
        return [compute(*rows)]
    except RuntimeError as error:
        if len(rows[0]) < 2 or not out_of_gpu_memory(error):
            raise
    log.warning("a batch of %d does not fit into memory: in two halves", len(rows[0]))
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    first, second = zip(*(tensor.tensor_split(2) for tensor in rows), strict=True)
    return [*_in_halves(compute, *first), *_in_halves(compute, *second)]
