"""The architectures: a file of this folder for each, found by itself.

An architecture says which weights a network has between the image and its linear layers. A new one is a new file here,
with one function that `architecture` decorates. It takes a Layout (bvae/networks.py) and the gain of its initial
weights, and returns the weights in forward order, and the shape that they make of an image. Nothing else has to be
edited. A file whose name begins with "_" holds what several architectures share.

Architectures import torch inside their functions: Snakemake and `--help` read this folder and do without it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bvae.system.records import enter, import_files

if TYPE_CHECKING:
    from torch import nn

    from bvae.networks import Layout


@dataclass(frozen=True)
class Architecture:
    """One architecture: what a recipe must and may say of it, and how its weights are built."""

    name: str  # in recipes: that of its function
    needs: tuple[str, ...]  # keys of a recipe's network, besides those of every architecture
    takes: tuple[str, ...]  # likewise, with defaults
    feature_maps: "Callable[[dict, int], tuple[int, ...]]"  # of a recipe's network and the pixels of an image
    build: "Callable[[Layout, float], tuple[list[nn.Module], tuple[int, ...]]]"


ARCHITECTURES: dict[str, Architecture] = {}  # by name, in the order of the files


def none(network: dict, size: int) -> tuple[int, ...]:
    """No feature maps: images of every size fit."""
    return ()


def architecture(
    *,
    needs: tuple[str, ...] = (),
    takes: tuple[str, ...] = (),
    feature_maps: "Callable[[dict, int], tuple[int, ...]]" = none,
) -> Callable:
    """Enter the decorated function in ARCHITECTURES: it builds the weights of a layout."""

    def decorate(build: Callable) -> Callable:
        enter(ARCHITECTURES, Architecture(build.__name__, needs, takes, feature_maps, build), build.__module__)
        return build

    return decorate


import_files(__name__, __path__)
