"""What does not fit into a GPU's memory at once is computed in parts."""

import logging
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
log = logging.getLogger(__name__)


def in_batches(compute: Callable[..., T], *rows: Tensor, size: int) -> list[T]:
    """The results of `compute(*batch)` for the batches of `size` rows, in order.

    Where the memory of a GPU does not suffice for a batch, its two halves are computed. What is computed of a row must
    not depend on the others; its last digits may, by how many are computed at once, so a warning says that it was done.
    Raises torch.OutOfMemoryError when a single row does not fit.
    """
    batches = zip(*(tensor.split(size) for tensor in rows), strict=True)
    return [part for batch in batches for part in _in_halves(compute, *batch)]


def _in_halves(compute: Callable[..., T], *rows: Tensor) -> list[T]:
    try:
        return [compute(*rows)]
    except torch.OutOfMemoryError:
        if len(rows[0]) < 2:
            raise
    log.warning("a batch of %d does not fit into memory: in two halves", len(rows[0]))
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    first, second = zip(*(tensor.tensor_split(2) for tensor in rows), strict=True)
    return [*_in_halves(compute, *first), *_in_halves(compute, *second)]
