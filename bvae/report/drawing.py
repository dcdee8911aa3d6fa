"""Figures of a study, drawn into files: `python -m bvae figure config/quick.yaml samples`.

torch and Matplotlib are imported when something is drawn.
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bvae.errors import InputError
from bvae.report.figures import FIGURES, Figure, kinds_of
from bvae.report.made_from import Plan, made_from, note_made_from
from bvae.report.outdated import refuse_outdated
from bvae.study.runs import data_path, first_name

if TYPE_CHECKING:
    from bvae.report.figures._page import Subject


def draw(names: Iterable[str], study: dict, root: Path = Path()) -> None:
    """Draw some figures of a checked study where the workflow has them: an SVG and a PNG each, always the same bytes.

    A name is a kind, one of FIGURES, for each recipe, data set and latent dimension of the study; or a figure's path
    without suffix, or the end of that from a slash on. Kinds with numbers have a csv as well. Raises InputError for a
    name that means no figure of the study, and for a run that is missing or outdated.
    """
    import torch

    from bvae.data import load
    from bvae.report.figures._page import find_subject

    plan = Plan(study, root)
    groups = plan.groups
    places = [(found, group, _place(found, group)) for group in groups for found in FIGURES.values()]
    asked: dict[str, tuple[Figure, dict]] = {}
    for name in names:
        meant = {path: (found, group) for found, group, path in places if f"/{path}".endswith(f"/{name}")}
        if not meant:
            raise InputError(
                f"{name}: no figure of study '{study['study']}'. Expected a kind ({', '.join(FIGURES)}), or one figure,"
                f" for example {places[0][2].partition('/figures/')[2] or places[0][2]}"
            )
        asked |= meant
    for group in groups:
        wanted = {path: found for path, (found, of) in asked.items() if of is group}
        if not wanted:
            continue
        if not all(found.network for found in wanted.values()):
            refuse_outdated(plan, "figures", group)
        kinds_by_rule = kinds_of(study, recorded=plan.recorded)
        whole = [rule for rule, kinds in kinds_by_rule.items() if kinds and _all(kinds, group) <= wanted.keys()]
        begun = {rule: made_from(plan, rule, group) for rule in whole}
        dataset = load(root / data_path(group["dataset"]))
        subject = find_subject(study, group["recipe"], dataset, group["latent_dim"], root)
        torch.set_num_threads(study["recipes"][group["recipe"]]["threads"])
        for path, found in wanted.items():
            about = subject
            if found.network:  # for every study the same, so its recipe is that which names the folder
                about = replace(subject, recipe=first_name(Path(path).parts[2]))
            draw_one(found, about, root / path)
        for rule, facts in begun.items():
            note_made_from(plan, rule, facts, group)


def draw_one(found: Figure, subject: "Subject", output: Path) -> None:
    """Draw a figure into `<output>.svg` and `.png`, with its numbers, if it has any, in `.csv` beside them."""
    from bvae.report.figures._page import save_figure
    from bvae.system.files import write_text

    save_figure(partial(found.draw, subject), output)
    if found.numbers:
        write_text(f"{output}.csv", found.numbers(subject).to_csv(index=False, lineterminator="\n"))


def _all(kinds: Iterable[str], group: dict) -> set[str]:
    """The paths of some kinds of figures without suffix."""
    return {_place(FIGURES[kind], group) for kind in kinds}


def _place(found: Figure, group: dict) -> str:
    """The path of a figure without suffix."""
    return f"{group['network' if found.network else 'figures']}/{found.name}"
