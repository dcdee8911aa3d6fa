"""The arms of the comparison: a file of this folder for each, found by itself.

A new arm is a new file here, with one function that `arm` decorates. It takes a Layout (bvae/networks.py) and a
likelihood (bvae/objective.py) and returns a VAE. Nothing else has to be edited: the schema of a study, tables, figures,
model cards and documentation read ARMS. A file whose name begins with "_" holds no arm.

Arms import torch inside their functions: Snakemake and `--help` read this folder and do without it.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bvae.errors import InputError
from bvae.system.records import check_version, enter, import_files

if TYPE_CHECKING:
    from torch import nn

    from bvae.networks import VAE, Layout

SIZE_TOLERANCE = 0.01  # up to which counts of parameters are equal: of all published studies they are to 0.1 %


@dataclass(frozen=True)
class Arm:
    """One arm: how it is built, called and drawn."""

    name: str  # in configs and in the names of files: that of its function
    label: str  # in tables and figures
    description: str  # in model cards: "It is ..."
    colour: str  # "#0072B2", of Okabe and Ito: blues are tied, reds are not; the dashes tell the arms apart in grey
    dash: Any  # of lines, as Matplotlib's linestyle
    marker: str  # of points, as Matplotlib's marker
    aside: int  # points that it is drawn beside an arm of nearly as many parameters, to be told apart
    build: "Callable[[Layout, nn.Module], VAE]"  # of its own layout, which a run records, and a likelihood
    layout: "Callable[[Layout], Layout]"  # its own layout, of the one that a recipe plans for all arms
    as_large_as: tuple[str, ...] = ()  # arms to whose size it is made; see `unequal`
    ordinary: bool = False  # a VAE of some size and nothing else, of whose parameters a tied arm can need a share
    may_refuse: bool = False  # a layout for which it has none of its own, by InputError
    version: int = 1  # of what it builds; the first is not written into the settings of runs

    def model(self, layout: "Layout", likelihood: "nn.Module") -> "VAE":
        """The untrained model of the layout that a recipe plans; see `of_own_layout`."""
        return self.of_own_layout(self.layout(layout), likelihood)

    def of_own_layout(self, layout: "Layout", likelihood: "nn.Module") -> "VAE":
        """The untrained model of the arm's own layout, which a run records.

        Raises InputError where one of the arm's functions has returned something else than a layout or a VAE.
        """
        from bvae.networks import VAE, Layout

        returned = f"the arm {self.name} returns %s, wanted a %s of bvae/networks.py"
        if not isinstance(layout, Layout):
            raise InputError(returned % (f"{type(layout).__name__} as its layout", "Layout"))
        model = self.build(layout, likelihood)
        if not isinstance(model, VAE):
            raise InputError(returned % (f"{type(model).__name__} as its model", "VAE"))
        return model

    def unequal(self, other: "Arm", parameters: Mapping[str, int]) -> str | None:
        """Why this arm is not as large as another, by the parameters of each; None where it is, or need not be.

        An arm that is made to the size of some is compared at equal size with every arm but the ordinary VAEs.
        """
        if not self.as_large_as or other.ordinary or not {self.name, other.name} <= parameters.keys():
            return None
        wanted = parameters[other.name]
        excess = parameters[self.name] - wanted
        if abs(excess) <= SIZE_TOLERANCE * wanted:
            return None
        how = f"{100 * abs(excess) / wanted:.1f} % {'more' if excess > 0 else 'fewer'}"
        return f"{self.label} has {how} parameters than {other.label}"


ARMS: dict[str, Arm] = {}  # by name, in the order of the files


def same(layout: "Layout") -> "Layout":
    """The layout that a recipe plans: what most arms take."""
    return layout


def arm(
    *,
    label: str,
    description: str,
    colour: str,
    dash: Any,
    marker: str,
    aside: int = 0,
    layout: "Callable[[Layout], Layout]" = same,
    as_large_as: tuple[str, ...] = (),
    ordinary: bool = False,
    may_refuse: bool = False,
    version: int = 1,
) -> Callable:
    """Enter the decorated function in ARMS: it builds the model of a layout and a likelihood.

    Raise `version` by one when a change alters what it builds or computes: runs of this arm alone are then trained
    again. Raises InputError for a label of another arm, a version that is not a whole number and a colour that is not
    written as "#0072B2".
    """

    def decorate(build: Callable) -> Callable:
        name = build.__name__
        if same_label := [other.name for other in ARMS.values() if other.label == label]:
            raise InputError(f"{build.__module__}: its label '{label}' is that of {same_label[0]}: choose another")
        check_version(version, build.__module__)
        if not re.fullmatch("#[0-9A-Fa-f]{6}", str(colour)):
            raise InputError(f"{build.__module__}: found the colour {colour!r}, wanted one such as '#0072B2'")
        looks = (colour, dash, marker, aside)
        record = Arm(name, label, description, *looks, build, layout, as_large_as, ordinary, may_refuse, version)
        enter(ARMS, record, build.__module__)
        return build

    return decorate


import_files(__name__, __path__)
