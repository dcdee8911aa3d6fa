"""Narrowing a VAE to a parameter count, layer by layer."""

import bisect
import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import torch
from torch import nn

from bvae.networks import VAE, Layout, parameter_breakdown
from bvae.objective import Bernoulli


def count_parameters(build: Callable[[Layout, nn.Module], VAE], layout: Layout) -> int:
    """Parameters of a model without building it: on torch's meta device, which holds shapes and no numbers."""
    with torch.device("meta"):
        return parameter_breakdown(build(layout, Bernoulli()))["total"]


@cache
def narrow(layout: Layout, target: int) -> Layout:
    """Narrow the layers of a VAE one by one until its parameter count is as near to `target` as it comes.

    From the same share of every layer's width that is just large enough, single layers are widened or narrowed by one
    unit, each time the one that brings the count nearest, until none does.
    """
    full = _widths(layout)

    def scaled(share: float) -> tuple[int, ...]:
        return tuple(max(1, math.ceil(share * width)) for width in full)

    def distance(widths: tuple[int, ...]) -> int:
        return abs(count_parameters(VAE, _with_widths(layout, widths)) - target)

    shares = range(1, 257)  # of 256
    enough = bisect.bisect_left(
        shares, target, key=lambda share: count_parameters(VAE, _with_widths(layout, scaled(share / 256)))
    )
    best = scaled(shares[min(enough, 255)] / 256)
    nearest = distance(best)
    while True:
        neighbours = [_step(best, i, by) for i in range(len(full)) for by in (-1, 1) if 1 <= best[i] + by <= full[i]]
        candidate = min(neighbours, key=distance, default=best)
        if distance(candidate) >= nearest:
            return _with_widths(layout, best)
        best, nearest = candidate, distance(candidate)


def _widths(layout: Layout) -> tuple[int, ...]:
    return (*layout.feature_maps, *([layout.neck] if layout.neck else []), *layout.hidden)


def _with_widths(layout: Layout, widths: tuple[int, ...]) -> Layout:
    maps = len(layout.feature_maps)
    hidden = maps + bool(layout.neck)
    return replace(layout, feature_maps=widths[:maps], neck=widths[maps] if layout.neck else 0, hidden=widths[hidden:])


def _step(widths: tuple[int, ...], index: int, by: int) -> tuple[int, ...]:
    return (*widths[:index], widths[index] + by, *widths[index + 1 :])
