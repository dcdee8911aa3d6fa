"""The results of a study: what each of them would be made from today, and what its file says that it was made from.

Every result says what it was made from: settings, hashes of data, models and other results, versions of the code.
bvae/report/outdated.py compares this with what `results_of` wants.
"""

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import bvae
from bvae.arms import ARMS
from bvae.errors import InputError
from bvae.evaluation.extractors import EXTRACTORS
from bvae.evaluation.metrics import OF_CONTROLS, OF_UNTRAINED, TASKS, tasks_of, versions
from bvae.evaluation.metrics._distortions import VERSION as DISTORTIONS
from bvae.report.figures import FIGURES, kinds_of
from bvae.study.runs import (
    SUMS,
    beside,
    controls_path,
    data_path,
    distances_path,
    expand_runs,
    first_settings,
    found_results,
    group_paths,
    is_record,
    made_from_path,
    network_settings,
    pca_path,
    per_image_path,
    protocol_of,
    read_sums,
    recorded_reference,
    reference_path,
    run_name,
    study_folder,
    training_settings,
)
from bvae.study.widths import series_of
from bvae.system.contents import Contents
from bvae.system.files import sha256_of_json, write_json

NOT_COMPARED = ("gives", "empty", "per_image")  # of what results say of a task
MADE = "made"  # where tables, claims and figures say which files were made, by their hashes
KEPT_HASHES = ".snakemake/hashes.json"
CLAIMS = "config/claims.yaml"
TABLES = ("table1", "table2", "table3", "runs")
ALL_TABLES = (*TABLES, "distances")  # of a study of protocol 2
FORMATS = ("csv", "tex", "html", "json")  # of a table
# The code whose change alters what is made, as patterns from the package's folder.
OF_DIAGRAMS = ("arms/*.py", "report/figures/*.py")
OF_TABLES = (
    *("arms/*.py", "evaluation/extractors/*.py", "evaluation/metrics/*.py", "evaluation/protocol.py"),
    *("report/*.py", "report/figures/_*.py"),  # the latter for the pictures beside tables
    *("study/claims.py", "study/runs.py", "study/widths.py"),
)
OF_FIGURES = (*OF_TABLES, "evaluation/draws.py", "evaluation/trained.py", "report/figures/*.py")
CONTROLS_OF = {"table": ("untrained", "pca", "controls", "cost"), "claims": ("controls",)}  # that a rule takes


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


class Plan:
    """A checked study with where its results are and what files say, each looked up once.

    `claims` is the path of the claims from `root`.
    """

    def __init__(self, study: dict, root: Path = Path(), *, claims: str = CLAIMS):
        self.study, self.claims = study, claims
        self.contents = Contents(root, root / KEPT_HASHES)
        self.runs = expand_runs(study)
        self.groups = group_paths(study, root)
        self.results = found_results(study, root)  # of each run, by its name
        self.recorded = any(map(is_record, self.results.values()))
        self.codes: dict[Sequence[str], str] = {}

    @cached_property
    def data_sets(self) -> list[str]:
        """The names of the study's data sets."""
        return list(dict.fromkeys(run["dataset"] for run in self.runs))

    def data_hash(self, dataset: str) -> str | None:
        """The hash of a data set's arrays; None when there is no sound file of it."""
        try:
            return self.contents.facts(data_path(dataset))["sha256"]
        except (InputError, KeyError):
            return None

    def reference_identity(self, path: str) -> str | None:
        """What says which reference is in a file; None when there is no sound one."""
        try:
            return self.contents.facts(path)["identity"]
        except (InputError, KeyError):
            return None

    def recorded_identity(self, dataset: str, extractor: str) -> str | None:
        """As `reference_identity`, of the reference that recorded runs saw; None when none is recorded.

        Raises InputError for a damaged one: without it another network would be trained.
        """
        path = recorded_reference(dataset, extractor)
        if not self.contents.exists(path):
            return None
        if (identity := self.reference_identity(path)) is None:
            raise InputError(f"{path}: not a file of a reference. Get it again from git.")
        return identity

    def code(self, patterns: Sequence[str]) -> str:
        """`code_hash` of some patterns."""
        if patterns not in self.codes:
            self.codes[patterns] = code_hash(patterns)
        return self.codes[patterns]


def results_of(plan: Plan, sources: Mapping[str, Mapping] | None = None) -> list[Result]:
    """All results of a study, each after those that it is made from.

    `sources` is what the rules of data sets say of them, by name: `source`, and `sha256` where it is known.
    """
    of_data = _of_data(plan, sources or {})
    if plan.study["tuning"]:
        return [*of_data, *of_runs(plan), *_of_study(plan)]
    return [*of_data, *_of_real_images(plan), *of_runs(plan), *_of_groups(plan), *_of_study(plan)]


def _of_data(plan: Plan, sources: Mapping[str, Mapping]) -> Iterator[Result]:
    for dataset in plan.data_sets:
        yield Result(data_path(dataset), partial(dict, sources.get(dataset, {}), name=dataset), [])


def _of_real_images(plan: Plan) -> Iterator[Result]:
    """References, and controls without an encoder."""
    for dataset in plan.data_sets:
        yield Result(controls_path(dataset), partial(_control, plan, dataset), [data_path(dataset)])
        for name in plan.study["features"]:
            yield Result(reference_path(dataset, name), partial(_reference, plan, dataset, name), [data_path(dataset)])
            if protocol_of(plan.study) == 2:
                inputs = [data_path(dataset), reference_path(dataset, name)]
                yield Result(distances_path(dataset, name), partial(_distorted, plan, dataset, name), inputs)
    for dataset, latent_dim in dict.fromkeys((group["dataset"], group["latent_dim"]) for group in plan.groups):
        pca = partial(_control, plan, dataset, latent_dim=latent_dim)
        yield Result(pca_path(dataset, latent_dim), pca, [data_path(dataset)])


def _of_dataset(plan: Plan, name: str, **facts: object) -> dict:
    return facts | {"dataset_sha256": plan.data_hash(name)}


def _reference(plan: Plan, name: str, extractor: str) -> dict:
    """Where runs on the data set are recorded it is over the network that they saw."""
    recorded = any(run["dataset"] == name and is_record(plan.results[run_name(run)]) for run in plan.runs)
    identity = plan.recorded_identity(name, extractor) if recorded else None
    identity = identity or plan.reference_identity(reference_path(name, extractor))
    return _of_dataset(plan, name, extractor=extractor, version=EXTRACTORS[extractor].version, identity=identity)


def _distorted(plan: Plan, name: str, extractor: str) -> dict:
    reference = plan.reference_identity(reference_path(name, extractor))
    return _of_dataset(plan, name, version=DISTORTIONS, reference_sha256=reference)


def _control(plan: Plan, name: str, *, tasks: Sequence[str] = OF_CONTROLS, **facts: object) -> dict:
    return _of_dataset(plan, name, versions=versions(tasks), **facts)


def _of_groups(plan: Plan) -> Iterator[Result]:
    """The untrained encoder and the cost of each recipe, data set and latent dimension."""
    for group in plan.groups:
        facts = {"latent_dim": group["latent_dim"], "settings": first_settings(plan.study["recipes"][group["recipe"]])}
        dataset, data = group["dataset"], [data_path(group["dataset"])]
        untrained = partial(_control, plan, dataset, tasks=OF_UNTRAINED, seed=group["seed"], **facts)
        yield Result(group["untrained"], untrained, data)
        of_code = {"training_version": bvae.TRAINING_VERSION, "arms": group["arms"]}
        of_code["arm_versions"] = {arm: ARMS[arm].version for arm in group["arms"]}
        cost = partial(_of_dataset, plan, dataset, **facts, **of_code)
        yield Result(group["cost"], cost, data, partial(_said_by_cost, group["arms"]))


def _said_by_cost(arms: Sequence[str], facts: dict) -> dict:
    """What the costs say of some arms: they may be of more. The first version of an arm is not written."""
    here = [arm for arm in arms if arm in facts["arms"]]
    return facts | {"arms": here, "arm_versions": {arm: facts["arms"][arm].get("version", 1) for arm in here}}


def of_runs(plan: Plan) -> Iterator[Result]:
    """The model and the results of each run; of a recorded one its record."""
    extractors = [] if plan.study["tuning"] else plan.study["features"]
    for run in plan.runs:
        data, results = data_path(run["dataset"]), plan.results[run_name(run)]
        if is_record(results):
            known = [name for name, _ in _references(plan, run, recorded=True)]
            said = partial(_said_by_record, plan, results, known)
            also = [beside(results, name) for name in ("history.csv", SUMS)]
            yield Result(results, partial(_of_record, plan, run, results), [], said, also)
            continue
        model, history = beside(results, "model.safetensors"), beside(results, "history.csv")
        yield Result(model, partial(_trained, plan, run), [data], _said_by_model, [history])
        references = [reference_path(run["dataset"], name) for name in extractors]
        inputs = [data, model, *references]
        also = [per_image_path(results)] if protocol_of(plan.study) == 2 else []
        yield Result(results, partial(_evaluated, plan, run, results), inputs, _said_by_results, also)


def _references(plan: Plan, run: dict, *, recorded: bool) -> list:
    """Each extractor of a run with the identity of its reference, None if it is not here; or those recorded."""
    names = [] if plan.study["tuning"] else plan.study["features"]
    if recorded:
        found = [[name, plan.recorded_identity(run["dataset"], name)] for name in names]
        return [[name, identity] for name, identity in found if identity]
    return [[name, plan.reference_identity(reference_path(run["dataset"], name))] for name in names]


def _trained(plan: Plan, run: dict) -> dict:
    return {
        "settings": training_settings(plan.study["recipes"][run["recipe"]], run["arm"]),
        "training_version": bvae.TRAINING_VERSION,
        "dataset_sha256": plan.data_hash(run["dataset"]),
        **{key: run[key] for key in ("dataset", "arm", "latent_dim", "seed")},
    }


def _said_by_model(facts: dict) -> dict:
    return facts | facts["run"]


def _evaluated(plan: Plan, run: dict, results: str) -> dict:
    """What the results of a run are made from: its model, and for each task what that depends on.

    Of a record the model and the values of images are not here, so they are not compared, nor are references whose
    networks are not recorded.
    """
    study, contents, recorded = plan.study, plan.contents, is_record(results)
    wanted = _trained(plan, run)
    uses: dict = {"importance": study["recipes"][run["recipe"]]["importance"]}
    if not study["tuning"]:
        wanted |= uses
    if not recorded:
        wanted["model_sha256"] = contents.sha256(beside(results, "model.safetensors"))
        if protocol_of(study) == 2:
            wanted["per_image_sha256"] = contents.sha256(per_image_path(results))
    if not study["tuning"]:
        uses["references"] = _references(plan, run, recorded=recorded)
    status = contents.facts(results)["status"]
    missing = any(identity is None for _, identity in uses.get("references", []))
    for name in tasks_of(status, tuning=study["tuning"], protocol=protocol_of(study)):
        used = {key: uses[key] for key in TASKS[name].uses if not (recorded and uses[key] == [])}
        unknown = missing and "references" in used
        wanted[f"task {name}"] = None if unknown else {"version": TASKS[name].version} | used
    return wanted


def _of_record(plan: Plan, run: dict, results: str) -> dict:
    """As `_evaluated`, but for the data set where it is not here: nothing can be made again from it."""
    return {name: value for name, value in _evaluated(plan, run, results).items() if value is not None}


def _said_by_results(row: dict) -> dict:
    tasks = {}
    for name, by in row["tasks"].items():
        tasks[f"task {name}"] = {key: value for key, value in by.items() if key not in NOT_COMPARED}
    return row | tasks


def _said_by_record(plan: Plan, results: str, known: Collection[str], row: dict) -> dict:
    """As `_said_by_results`, but of the references only those of `known` extractors; and the hashes of its files."""
    said = _said_by_results(row)
    for task in said.values():
        if isinstance(task, dict) and "references" in task:
            task["references"] = [pair for pair in task["references"] if pair[0] in known]
            if not task["references"]:
                del task["references"]
    sums, names = read_sums(plan.contents.root / beside(results, SUMS)), ("history.csv", Path(results).name)
    return said | {MADE: {beside(results, name): sums[name] for name in names}}


def _of_study(plan: Plan) -> Iterator[Result]:
    """Tables, claims and figures. A file beside them says what they were made from."""
    rules: list[tuple[str, dict | None]] = [(rule, None) for rule in rules_of(plan.study)]
    if not plan.study["tuning"]:
        drawn = [rule for rule, kinds in kinds_of(plan.study, recorded=plan.recorded).items() if kinds]
        rules += [(rule, group) for group in plan.groups for rule in drawn]
    for rule, group in rules:
        data = [] if group is None else [data_path(group["dataset"])]
        inputs, files = [*data, *inputs_of(plan, rule, group)], files_made(plan, rule, group)
        said_in = made_from_path(plan.study, rule, group)
        yield Result(said_in, partial(made_from, plan, rule, group), inputs, also=files)


def made_from(plan: Plan, rule: str, group: dict | None = None) -> dict[str, object]:
    """What a rule would make tables, claims or figures of a study from today.

    It is hashes by name: of settings, of the code, and of each file by its path, None when it is not there yet; and
    the number of files. Of figures, `group` is their entry of `group_paths`.
    """
    files = inputs_of(plan, rule, group)
    facts: dict[str, object] = {"files": len(files)}
    if group is None:
        about = plan.study if rule == "claims" else {k: v for k, v in plan.study.items() if k != "claims"}
        facts |= {"settings": sha256_of_json(about), "code": plan.code(OF_TABLES)}
    else:
        recipe = plan.study["recipes"][group["recipe"]]
        facts["dataset_sha256"] = plan.data_hash(group["dataset"])
        if rule == "diagrams":  # of every study with this network
            facts |= {"settings": sha256_of_json(network_settings(recipe)), "code": plan.code(OF_DIAGRAMS)}
        else:
            settings = [group["recipe"], recipe, plan.study.get("figure_seed")]
            facts |= {"settings": sha256_of_json(settings), "code": plan.code(OF_FIGURES)}
    # the claims are elsewhere when Snakemake runs in another folder
    names = {plan.claims: "the claims"}
    return facts | {names.get(path, path): plan.contents.sha256(path) for path in files}


def inputs_of(plan: Plan, rule: str, group: dict | None = None) -> list[str]:
    """The files that a rule makes tables, claims or figures of a study from, but for data sets."""
    if rule == "diagrams":
        return []
    place = {} if group is None else {key: group[key] for key in ("recipe", "dataset", "latent_dim")}
    runs = [plan.results[run_name(run)] for run in plan.runs if place.items() <= run.items()]
    if group is not None:
        return [*runs, *(beside(path, "history.csv") for path in runs)]
    if rule == "claims" and protocol_of(plan.study) == 2:  # its claims are those of the study itself
        return runs
    controls = dict.fromkeys(found[part] for found in plan.groups for part in CONTROLS_OF.get(rule, ()))
    distances = distances_of(plan.study) if rule == "table" else []
    return [*runs, *controls, *distances, *([plan.claims] if rule == "claims" else [])]


def distances_of(study: dict) -> list[str]:
    """The files of what known changes of real images cost, which the tables of a study of protocol 2 take."""
    datasets = dict.fromkeys(run["dataset"] for run in expand_runs(study))
    pairs = [(dataset, name) for dataset in datasets for name in study["features"]]
    return [distances_path(*pair) for pair in pairs] if protocol_of(study) == 2 else []


def note_made_from(plan: Plan, rule: str, begun: Mapping[str, object], group: dict | None = None) -> None:
    """Write what tables, claims or figures were made from, and their hashes, where `made_from_path` says.

    `begun` is what `made_from` said before anything was read: what changed since then makes them outdated.
    """
    made = {path: plan.contents.sha256(path) for path in files_made(plan, rule, group)}
    path = plan.contents.root / made_from_path(plan.study, rule, group)
    write_json(path, {**begun, MADE: made})


def rules_of(study: dict) -> Sequence[str]:
    """The rules that make the tables and verdicts of a study."""
    return ("tuning",) if study["tuning"] else ("table", "claims")


def tables_of(study: dict) -> Sequence[str]:
    """The names of a study's tables."""
    return ALL_TABLES if protocol_of(study) == 2 else TABLES


def files_made(plan: Plan, rule: str, group: dict | None = None) -> list[str]:
    """`files_of` the study of a plan, by the runs that are only recorded."""
    return files_of(plan.study, rule, group, recorded=plan.recorded)


def files_of(study: dict, rule: str, group: dict | None = None, *, recorded: bool = False) -> list[str]:
    """The files that a rule makes: tables, claims, or the figures of an entry of `group_paths`.

    Where a run is only `recorded`, there are no figures of models.
    """
    folder = study_folder(study).as_posix()
    if group is not None:
        folder = group["network" if rule == "diagrams" else "figures"]
        return [
            f"{folder}/{kind}.{suffix}"
            for kind in kinds_of(study, recorded=recorded)[rule]
            for suffix in FIGURES[kind].suffixes
        ]
    if rule == "table":
        return [f"{folder}/tables/{name}.{suffix}" for name in tables_of(study) for suffix in FORMATS]
    more = {"claims": ("md",), "tuning": ("svg", "png")}[rule]
    files = [f"{folder}/{rule}.{suffix}" for suffix in (*FORMATS, *more)]
    if rule == "claims" and protocol_of(study) == 2:
        files += [f"{folder}/comparisons.{suffix}" for suffix in FORMATS]
        files += [f"{folder}/sizes.{suffix}" for suffix in (*FORMATS, "svg", "png") if series_of(study)]
    return files


def code_hash(patterns: Sequence[str]) -> str:
    """A hash of the source files of this package that some patterns match."""
    folder, digest = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted({path for pattern in patterns for path in folder.glob(pattern)}):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
