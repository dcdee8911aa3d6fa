"""Which results are outdated: made from something else than they would be made from today.

At each start of a study `outdated` compares what results say that they were made from with the study, the files and the
code as they are now. It looks only at contents, never at time stamps or at Snakemake's own records, so nothing is
missed when these are lost or wrong.
"""

import json
import logging
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from bvae.arms import ARMS
from bvae.errors import InputError
from bvae.report.figures import FIGURES
from bvae.report.made_from import ALL_TABLES, MADE, Plan, Result, inputs_of, results_of
from bvae.study.runs import command_of, data_path, is_record, protocol_of, run_name, study_folder
from bvae.study.widths import shared_widths
from bvae.system.contents import Contents
from bvae.system.files import read_shapes

log = logging.getLogger(__name__)

MISSING = "is missing"
CHANGED = "was changed after it was recorded"
OF_RECORD = (
    "It is the record of a run whose model is not kept. Get it again from git; or delete its folder and give the same"
    " command again, and the run is trained again."
)
SHOWN = 5  # results that are named
OF_JUDGEMENT = ("claims", "comparisons", "sizes", "tuning")


def outdated(plan: Plan, results: Sequence[Result], *, known_only: bool = False) -> dict[str, str]:
    """The results that are missing or outdated, by their path, each with the reason.

    A result whose inputs are missing is outdated; with `known_only` it is compared as far as that can be done.
    """
    reasons = {result.path: _reason(result, plan.contents, known_only) for result in results}
    plan.contents.keep()
    return {path: reason for path, reason in reasons.items() if reason}


def _reason(result: Result, contents: Contents, known_only: bool) -> str | None:
    if not contents.exists(result.path):
        return MISSING
    if gone := [path for path in result.also if not contents.exists(path)]:
        return f"is not whole: there is no {gone[0]}"
    try:
        said = result.said(contents.facts(result.path))
        wanted = result.wanted()
    except (InputError, KeyError, TypeError, AttributeError):
        return "is damaged, or of another version of this suite"
    for name, value in wanted.items():
        if value is None:
            if not known_only:
                return f"was made from {name}, which is missing"
        elif said.get(name) != value:
            return f"was made from {name} {_short(said.get(name))}, which is now {_short(value)}"
    for path, sha256 in said.get(MADE, {}).items():
        if contents.sha256(path) != sha256:
            return CHANGED if path == result.path else f"was written with another {path} than the one that is there"
    return None


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return f"{text[:12]}…" if len(text) == 64 else text if len(text) <= 60 else f"{text[:57]}..."


def set_times_right(results: Sequence[Result], found: Mapping[str, str], root: Path = Path()) -> None:
    """Make each result that is not among the outdated ones `found` as new as what it was made from.

    A copy of results may have its time stamps in any order, and Snakemake makes what is older than its inputs again.
    """
    for result in results:
        if result.path not in found:
            newest = max((_time(root / path) for path in result.inputs), default=0)
            for path in (result.path, *result.also):
                if _time(root / path) < newest:
                    os.utime(root / path, ns=(newest, newest))


def _time(path: Path) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except FileNotFoundError:
        return 0


def tell_outdated(found: Mapping[str, str]) -> None:
    """Say which results are there and are made again, and why."""
    changed = {path: reason for path, reason in found.items() if reason != MISSING}
    for path, reason in list(changed.items())[:SHOWN]:
        log.warning("%s %s: it is made again", path, reason)
    if len(changed) > SHOWN:
        log.warning("and %d other results are made again", len(changed) - SHOWN)


def tell_left_over(plan: Plan, results: Sequence[Result]) -> None:
    """Say which files of the study's folder are tables, verdicts or figures that it does not make any more.

    They show what the study was before, as the figures of an arm that was removed.
    """
    made = {path for result in results for path in (result.path, *result.also)}
    root, names = plan.contents.root, {*FIGURES, *ALL_TABLES, *OF_JUDGEMENT}
    files = (path for path in (root / study_folder(plan.study)).rglob("*") if path.stem in names and path.is_file())
    if left := sorted(path for path in (file.relative_to(root).as_posix() for file in files) if path not in made):
        shown = ", ".join(left[:SHOWN]) + (", ..." if len(left) > SHOWN else "")
        text = "study '%s' does not make %d files of its folder any more. They show what it was before: delete them. %s"
        log.warning(text, plan.study["study"], len(left), shown)


def refuse_own_data(found: Mapping[str, str], own: Collection[str]) -> None:
    """Raise InputError when a data set of the user's `own`, by its path, is outdated.

    Its rule is the user's and has no stamp, so Snakemake would not make it again.
    """
    for path in own:
        if (reason := found.get(path, MISSING)) != MISSING:
            raise InputError(
                f"{path} {reason}. Delete this file and give the same command again: the data set, and everything that"
                " depends on it, is then made again."
            )


def refuse_records(found: Mapping[str, str]) -> None:
    """Raise InputError when a record is outdated: without its model it cannot be evaluated again."""
    for path, reason in found.items():
        if is_record(path):
            raise InputError(f"{path} {reason}. {OF_RECORD}")


def refuse_to_report(found: Mapping[str, str]) -> None:
    """Raise InputError when a result that is there is outdated: Snakemake's report makes nothing, and would show it."""
    for path, reason in found.items():
        if reason != MISSING:
            raise InputError(
                f"{path} {reason}. A report shows results as they are: run the same command without --report first."
            )


def refuse_layouts(plan: Plan, shapes: Mapping[str, Sequence[int]]) -> None:
    """Raise InputError when an arm has no layout for a run that is to be trained.

    `shapes` are channels and size of published data sets by name. Of a data set that is not among them, and whose file
    is not there, it is not known.
    """
    asked = {(run["dataset"], run["recipe"], run["latent_dim"], run["arm"]): run for run in plan.runs}
    for run in (run for run in asked.values() if ARMS[run["arm"]].may_refuse):
        results, data = plan.results[run_name(run)], data_path(run["dataset"])
        if plan.contents.exists(results) or not (plan.contents.exists(data) or run["dataset"] in shapes):
            continue
        from bvae.networks import plan as plan_layout  # imports torch

        network = plan.study["recipes"][run["recipe"]]["network"]
        if plan.contents.exists(data):
            _, channels, size, _ = read_shapes(plan.contents.root / data)["test_images"]
        else:
            channels, size = shapes[run["dataset"]]
        try:
            ARMS[run["arm"]].layout(plan_layout(network, channels=channels, size=size, latent_dim=run["latent_dim"]))
        except InputError as error:
            raise InputError(f"recipe {run['recipe']} on {run['dataset']}: {error}") from None


def tell_shared_widths(study: dict) -> None:
    """Say of recipes of a checked study that they are in no table of sizes, if they could be."""
    judged = protocol_of(study) == 2 and not study["tuning"]  # others have no such table
    if judged and (names := shared_widths(study)):
        log.warning(
            "study '%s': the recipes %s are in no table of sizes: several have the same width, and differ in nothing"
            " but the learning rate and other sizes; expected each width once. Give the recipes of one series the same"
            " name before the width, as slow-w256 and slow-w512.",
            study["study"],
            ", ".join(names),
        )


def warn_of_unread(paths: Collection[str]) -> None:
    """Say of data sets, by their paths, that a change of their rules is not noticed, if they are there."""
    for path in paths:
        if Path(path).exists():
            log.warning(
                "%s: its rule has no `bvae fetch` that can be read. If you change the rule, delete this file.", path
            )


def refuse_outdated(plan: Plan, rule: str, group: dict | None = None) -> None:
    """Raise InputError when a result that a rule takes for tables, claims, tuning or figures is missing or outdated.

    Of figures, `group` is their entry of `group_paths`.
    """
    inputs = set(inputs_of(plan, rule, group))
    taken = [result for result in results_of(plan) if result.path in inputs]
    found = outdated(plan, taken, known_only=True)
    refuse_records(found)
    for path, reason in found.items():
        raise InputError(f"{plan.contents.root / path} {reason}. Run `{command_of(plan.study)}`, which makes it again.")
