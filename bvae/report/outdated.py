"""Which results are not made from what they would be made from today.

Every result says what it was made from: settings, hashes of data, models and other results, versions of the code. At
each start of a study `outdated` compares this with the study, the files and the code as they are now. It looks only at
contents, never at time stamps or at Snakemake's own records, so nothing is missed when these are lost or wrong.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import bvae
from bvae.arms import ARMS
from bvae.errors import InputError
from bvae.evaluation.extractors import EXTRACTORS
from bvae.evaluation.metrics import OF_CONTROLS, TASKS, tasks_of, versions
from bvae.report.figures import FIGURES, kinds_of
from bvae.study.runs import (
    controls_path,
    data_path,
    expand_runs,
    first_settings,
    group_paths,
    made_from_path,
    network_settings,
    pca_path,
    reference_path,
    results_paths,
    run_name,
    study_folder,
    training_settings,
)
from bvae.system.contents import Contents
from bvae.system.files import write_json

log = logging.getLogger(__name__)

MISSING = "is missing"
MADE = "made"  # where tables, claims and figures say which files were made, by their hashes
SHOWN = 5  # results that are named
KEPT_HASHES = ".snakemake/hashes.json"
CLAIMS = "config/claims.yaml"
TABLES = ("table1", "table2", "table3", "runs")
FORMATS = ("csv", "tex", "html", "json")  # of a table
# The code whose change alters what a rule makes, as patterns from the package's folder.
OF_DIAGRAMS = ("arms/*.py", "report/figures/*.py")
OF_TABLES = ("arms/*.py", "evaluation/extractors/*.py", "evaluation/metrics/*.py", "report/*.py")
OF_FIGURES = (*OF_TABLES, "report/figures/*.py")


def _itself(facts: dict) -> dict:
    return facts


@dataclass(frozen=True)
class Result:
    """What a job makes: the file that says what it was made from, and `also` the others without which it is not whole.

    `inputs` are the files that it is made from. `wanted` returns what it would be made from today, by name; what is not
    known yet is None. `said` takes the same names from what the file says.
    """

    path: str
    wanted: Callable[[], Mapping[str, object]]
    inputs: Sequence[str]
    said: Callable[[dict], Mapping[str, Any]] = _itself
    also: Sequence[str] = ()


def open_contents(root: Path = Path()) -> Contents:
    """The contents of the files below `root`, whose hashes are kept there."""
    return Contents(root, root / KEPT_HASHES)


def outdated(results: Sequence[Result], contents: Contents, *, known_only: bool = False) -> dict[str, str]:
    """The results that are missing or outdated, by their path, each with the reason.

    A result whose inputs are missing is outdated; with `known_only` it is compared as far as that can be done.
    """
    reasons = {result.path: _reason(result, contents, known_only) for result in results}
    contents.keep()
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
            return f"has made another {path} than is there"
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


def warn_of_unread(paths: Collection[str]) -> None:
    """Say of data sets, by their paths, that a change of their rules is not noticed, if they are there."""
    for path in paths:
        if Path(path).exists():
            log.warning(
                "%s: its rule has no `bvae fetch` that can be read. After a change of it, delete this file.", path
            )


def refuse_outdated(study: dict, root: Path, rule: str) -> None:
    """Raise InputError when a result that a rule of a checked study takes is missing or outdated."""
    contents = open_contents(root)
    inputs = inputs_of(study, rule, contents)
    taken = [result for result in results_of(study, contents) if result.path in inputs]
    for path, reason in outdated(taken, contents, known_only=True).items():
        raise InputError(f"{root / path} {reason}. Run `snakemake`, which makes it again.")


# --------------------------------------------------------------------------------------------------------------------
# The results of a study
# --------------------------------------------------------------------------------------------------------------------


def results_of(
    study: dict, contents: Contents, claims: str = CLAIMS, sources: Mapping[str, Mapping] | None = None
) -> list[Result]:
    """All results of a checked study, each after those that it is made from.

    `claims` is the path of the claims. `sources` is what the rules of data sets say of them, by name: `source`, and
    `sha256` where it is known.
    """
    tuning = study["tuning"]
    return [
        *_of_data(study, sources or {}),
        *([] if tuning else _of_real_images(study, contents)),
        *_of_runs(study, contents),
        *([] if tuning else _of_groups(study, contents)),
        *_of_study(study, contents, claims),
    ]


def _data_hash(contents: Contents, dataset: str) -> str | None:
    """The hash of a data set's arrays; None when there is no sound file of it."""
    try:
        return contents.facts(data_path(dataset))["sha256"]
    except (InputError, KeyError):
        return None


def _data_sets(study: dict) -> list[str]:
    return list(dict.fromkeys(run["dataset"] for run in expand_runs(study)))


def _of_data(study: dict, sources: Mapping[str, Mapping]) -> Iterator[Result]:
    for dataset in _data_sets(study):
        yield Result(data_path(dataset), partial(dict, sources.get(dataset, {}), name=dataset), [])


def _of_real_images(study: dict, contents: Contents) -> Iterator[Result]:
    """References, and controls without an encoder."""
    for dataset in _data_sets(study):
        yield Result(controls_path(dataset), partial(_control, contents, dataset), [data_path(dataset)])
        for name in study["features"]:
            reference = partial(_of_dataset, contents, dataset, extractor=name, version=EXTRACTORS[name].version)
            yield Result(reference_path(dataset, name), reference, [data_path(dataset)])
    for dataset, latent_dim in dict.fromkeys((group["dataset"], group["latent_dim"]) for group in group_paths(study)):
        pca = partial(_control, contents, dataset, latent_dim=latent_dim)
        yield Result(pca_path(dataset, latent_dim), pca, [data_path(dataset)])


def _of_dataset(contents: Contents, name: str, **facts: object) -> dict:
    return facts | {"dataset_sha256": _data_hash(contents, name)}


def _control(contents: Contents, name: str, **facts: object) -> dict:
    return _of_dataset(contents, name, versions=versions(OF_CONTROLS), **facts)


def _of_groups(study: dict, contents: Contents) -> Iterator[Result]:
    """The untrained encoder and the cost of each recipe, data set and latent dimension."""
    for group in group_paths(study, contents.root):
        facts = {"latent_dim": group["latent_dim"], "settings": first_settings(study["recipes"][group["recipe"]])}
        untrained = partial(_control, contents, group["dataset"], seed=group["seed"], **facts)
        yield Result(group["untrained"], untrained, [data_path(group["dataset"])])
        of_code = {"training_version": bvae.TRAINING_VERSION, "arms": sorted(ARMS)}
        cost = partial(_of_dataset, contents, group["dataset"], **facts, **of_code)
        yield Result(group["cost"], cost, [data_path(group["dataset"])], _said_by_cost)


def _said_by_cost(facts: dict) -> dict:
    return facts | {"arms": sorted(facts["arms"])}


def _of_runs(study: dict, contents: Contents) -> Iterator[Result]:
    paths = results_paths(study, contents.root)
    for run in expand_runs(study):
        results = paths[run_name(run)]
        folder = results.rpartition("/")[0]
        model, history = (f"{folder}/{name}" for name in ("model.safetensors", "history.csv"))
        data = data_path(run["dataset"])
        yield Result(model, partial(_trained, study, run, contents), [data], _said_by_model, [history])
        references = [] if study["tuning"] else [reference_path(run["dataset"], name) for name in study["features"]]
        evaluated = partial(_evaluated, study, run, results, contents)
        yield Result(results, evaluated, [data, model, *references], _said_by_results)


def _trained(study: dict, run: dict, contents: Contents) -> dict:
    return {
        "settings": training_settings(study["recipes"][run["recipe"]], run["arm"]),
        "training_version": bvae.TRAINING_VERSION,
        "dataset_sha256": _data_hash(contents, run["dataset"]),
        **{key: run[key] for key in ("dataset", "arm", "latent_dim", "seed")},
    }


def _said_by_model(facts: dict) -> dict:
    return facts | facts["run"]


def _evaluated(study: dict, run: dict, results: str, contents: Contents) -> dict:
    """What the results of a run are made from: its model, and for each task what that depends on."""
    model = f"{results.rpartition('/')[0]}/model.safetensors"
    wanted = _trained(study, run, contents) | {"model_sha256": contents.sha256(model)}
    uses: dict = {"importance": study["recipes"][run["recipe"]]["importance"]}
    if not study["tuning"]:
        wanted |= uses
        hashes = [[name, contents.sha256(reference_path(run["dataset"], name))] for name in study["features"]]
        uses["references"] = hashes if all(sha256 for _, sha256 in hashes) else None
    for name in tasks_of(contents.facts(results)["status"], tuning=study["tuning"]):
        used = {key: uses[key] for key in TASKS[name].uses}
        wanted[f"task {name}"] = None if None in used.values() else {"version": TASKS[name].version} | used
    return wanted


def _said_by_results(row: dict) -> dict:
    tasks = {}
    for name, by in row["tasks"].items():
        tasks[f"task {name}"] = {key: value for key, value in by.items() if key not in ("gives", "empty")}
    return row | tasks


def _of_study(study: dict, contents: Contents, claims: str) -> Iterator[Result]:
    """Tables, claims and figures. A file beside them says what they were made from."""
    rules: list[tuple[str, dict | None]] = [("table", None), ("claims", None)]
    rules += [(rule, group) for group in group_paths(study, contents.root) for rule in kinds_of(study)]
    for rule, group in [("tuning", None)] if study["tuning"] else rules:
        wanted = partial(made_from, study, rule, contents, group=group, claims=claims)
        inputs = inputs_of(study, rule, contents, group=group, claims=claims)
        data = [] if group is None else [data_path(group["dataset"])]
        yield Result(made_from_path(study, rule, group), wanted, [*data, *inputs], also=files_of(study, rule, group))


def made_from(
    study: dict, rule: str, contents: Contents, *, group: dict | None = None, claims: str = CLAIMS
) -> dict[str, object]:
    """What a rule would make tables, claims or figures of a checked study from today.

    It is hashes by name: of settings, of the code, and of each file by its path, None when it is not there yet; and
    the number of files. Of figures, `group` is their entry of `group_paths`.
    """
    files = inputs_of(study, rule, contents, group=group, claims=claims)
    facts: dict[str, object] = {"files": len(files)}
    settings, code = _hash(study), code_hash(OF_TABLES)
    if group is not None:
        recipe, code = study["recipes"][group["recipe"]], code_hash(OF_FIGURES)
        settings = _hash([group["recipe"], recipe, study.get("figure_seed")])
        facts["dataset_sha256"] = _data_hash(contents, group["dataset"])
        if rule == "diagrams":  # of every study with this network
            settings, code = _hash(network_settings(recipe)), code_hash(OF_DIAGRAMS)
    facts |= {"settings": settings, "code": code}
    return facts | {path if path != claims else "the claims": contents.sha256(path) for path in files}


def inputs_of(
    study: dict, rule: str, contents: Contents, *, group: dict | None = None, claims: str = CLAIMS
) -> list[str]:
    """The files that a rule makes tables, claims or figures of a checked study from, but for data sets."""
    if rule == "diagrams":
        return []
    paths = results_paths(study, contents.root)
    place = {} if group is None else {key: group[key] for key in ("recipe", "dataset", "latent_dim")}
    runs = [paths[run_name(run)] for run in expand_runs(study) if place.items() <= run.items()]
    if group is not None:
        return [*runs, *(f"{path.rpartition('/')[0]}/history.csv" for path in runs)]
    parts = {"table": ("untrained", "pca", "controls", "cost"), "claims": ("controls",)}.get(rule, ())
    more = dict.fromkeys(found[part] for found in group_paths(study, contents.root) for part in parts)
    return [*runs, *more, *([claims] if rule == "claims" else [])]


def note_made_from(study: dict, rule: str, root: Path, *, group: dict | None = None, claims: str = CLAIMS) -> None:
    """Write what tables, claims or figures were made from, and their hashes, where `made_from_path` says."""
    contents = Contents(root)
    made = {path: contents.sha256(path) for path in files_of(study, rule, group)}
    facts = made_from(study, rule, contents, group=group, claims=claims) | {MADE: made}
    write_json(root / made_from_path(study, rule, group), facts)


def files_of(study: dict, rule: str, group: dict | None = None) -> list[str]:
    """The files that a rule makes: tables, claims, or the figures of an entry of `group_paths`."""
    folder = study_folder(study).as_posix()
    if group is not None:
        folder = group["network" if rule == "diagrams" else "figures"]
        return [f"{folder}/{kind}.{suffix}" for kind in kinds_of(study)[rule] for suffix in FIGURES[kind].suffixes]
    if rule == "table":
        return [f"{folder}/tables/{name}.{suffix}" for name in TABLES for suffix in FORMATS]
    more = {"claims": ("md",), "tuning": ("svg", "png")}[rule]
    return [f"{folder}/{rule}.{suffix}" for suffix in (*FORMATS, *more)]


def _hash(settings: object) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def code_hash(patterns: Sequence[str]) -> str:
    """A hash of the source files of this package that some patterns match."""
    folder, digest = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(path for pattern in patterns for path in folder.glob(pattern)):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
