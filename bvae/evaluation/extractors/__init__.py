"""The features that distances between images are over: a file of this folder for each extractor, found by itself.

A new extractor is a new file here, with one class that `extractor` decorates. Nothing else has to be edited: the schema
of a study, the names of metrics, tables, notes and rules read EXTRACTORS. A file whose name begins with "_" holds none.

Extractors import torch inside their methods: Snakemake and `--help` read this folder and do without it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bvae.errors import InputError
from bvae.system.records import check_version, enter, import_files

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from bvae.data import Dataset


@dataclass(frozen=True)
class Network:
    """An extractor made ready on a device."""

    extract: "Callable[[Tensor], Tensor]"  # uint8 (n, c, h, w) -> (n, features)
    images_at_once: int
    tensors: "Mapping[str, Tensor]"  # what a reference keeps of it
    facts: Mapping[str, Any]  # likewise


@dataclass(frozen=True)
class Weights:
    """A published file that an extractor needs."""

    path: str  # from the working directory
    fetch: Callable[[str | Path], None]  # to this place, checked, whole or not at all


class Extractor(ABC):
    """What each extractor says of itself and does."""

    name: str  # in studies and in the names of files: that of its class, in small letters
    label: str  # in Table 2
    header: str | None  # of its Fréchet distance, in Table 1; None: it has no column there
    features: str  # in the documentation: "Fréchet distance over ..."
    note: str  # below a table: what its distance is
    source: str = ""
    version: int  # of its references: raise it by one when a change alters them
    order: int = 100  # of its columns
    kinds: Sequence[str] = ("fd", "kid", "precision", "recall")  # the metrics of `references.compare` over it
    called: Mapping[str, str] = {}  # metrics of `references.compare` with names of their own
    weights: Weights | None = None

    def metric(self, kind: str) -> str:
        """What a metric of `references.compare` (fd, kid, precision, recall) over these features is called."""
        return self.called.get(kind, f"{kind}_{self.name}")

    @abstractmethod
    def why_empty(self, dataset: "Dataset", images: int) -> str | None:
        """Why distances to so many test images mean nothing here; None where they do."""

    @abstractmethod
    def make(self, dataset: "Dataset", images: int, device: "torch.device") -> Network:
        """The network for a data set of so many test images: trained on it, or read from its file."""

    @abstractmethod
    def load(self, tensors: "Mapping[str, Tensor]", facts: Mapping[str, Any], device: "torch.device") -> Network:
        """The network that `make` made, of the tensors and facts that a reference keeps of it."""


NEEDED = ("label", "header", "features", "note", "version")  # what an Extractor says of itself without a default
EXTRACTORS: dict[str, Extractor] = {}  # by name, in the order of their columns


def extractor(kind: type[Extractor]) -> type[Extractor]:
    """Enter the decorated class in EXTRACTORS. Raises InputError for one that lacks a part or has no version."""
    home = kind.__module__
    if not (isinstance(kind, type) and issubclass(kind, Extractor)):
        raise InputError(f"{home}: {kind.__name__} is no Extractor: write class {kind.__name__}(Extractor)")
    lacking = [part for part in NEEDED if not hasattr(kind, part)] + sorted(kind.__abstractmethods__)
    if lacking:
        raise InputError(
            f"{home}: {kind.__name__} lacks {', '.join(lacking)}: bvae/evaluation/extractors/ says what each is"
        )
    check_version(kind.version, home)
    kind.name = kind.__name__.lower()
    enter(EXTRACTORS, kind(), home)
    return kind


import_files(__name__, __path__)
EXTRACTORS = dict(sorted(EXTRACTORS.items(), key=lambda found: found[1].order))
