"""The tables of a study: mean and spread over seeds, with the controls and the provenance beside them."""

import json
import os
import platform
import subprocess
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import pandas as pd

import bvae
from bvae.arms import ARMS
from bvae.errors import InputError
from bvae.evaluation import protocol
from bvae.evaluation.extractors import EXTRACTORS
from bvae.evaluation.metrics import TASKS, Metric, all_metrics, versions
from bvae.evaluation.metrics._cost import COSTS
from bvae.evaluation.metrics.distances import DECODED, KINDS
from bvae.evaluation.metrics.paths import PATHS
from bvae.evaluation.metrics.probes import FEATURES as PROBES
from bvae.report.distances import references_of, table_of_distances
from bvae.report.footnotes import bounds, on_cost, on_empty, on_features, on_runs, on_table1, on_table2
from bvae.report.made_from import ALL_TABLES, Plan, made_from, note_made_from, tables_of
from bvae.report.outdated import refuse_outdated
from bvae.report.typeset import Table, write_table
from bvae.study.runs import GROUP, expand_runs, found_results, group_paths, is_record, protocol_of, run_name
from bvae.system.files import read_json, sha256_of_json

CONTROL_NAMES = {
    "untrained": "untrained encoder",
    "pca": "PCA",
    "raw_pixels": "raw pixels",
    "majority": "majority class",
    "mean_image": "mean image",
    "real_images": "real images",
}
TABLE1, TABLE2 = ([metric for metric in all_metrics() if metric.table == number] for number in (1, 2))
LISTS = (
    "empty",
    "tasks",
    "kl_per_latent",
    "variance_per_latent",
    "probe_accuracy_per_attribute",
)  # left out of runs.csv
OF_PROBES = [f"probe_{name}_{what}accuracy" for name in PROBES for what in ("", "unbalanced_")]
PACKAGES = ("torch", "torchvision", "torch-fidelity", "scikit-learn", "pandas", "numpy", "scipy")


def collect_runs(study: dict, rule: str, root: Path = Path()) -> list[dict]:
    """Read the results of every run of a checked study for a rule, in the study's order: metrics, or of tuning ELBOs.

    Raises InputError for a run that is missing, or is not made from the study's settings, its model and the code of
    today, or saw other data or references than the runs before it, or lacks a number that another run of its arm has;
    and for such controls and costs, if the rule takes any.
    """
    plan = Plan(study, root)
    refuse_outdated(plan, rule)
    rows: list[dict] = []
    seen: dict[tuple[str, str], str] = {}
    numbers: dict[tuple, tuple[set[str], Path]] = {}  # of a cell's first run, and its file
    for run in expand_runs(study):
        path = root / plan.results[run_name(run)]
        row = read_json(path) | {"recipe": run["recipe"]}  # equal settings may have been trained under another name
        for what, sha256 in (("data", row["dataset_sha256"]), *references_of(row)):
            if seen.setdefault((row["dataset"], what), sha256) != sha256:
                other = what if what == "data" else f"reference features of {what}"
                raise InputError(
                    f"{path}: saw other {other} than the runs before it. Delete its folder and run `snakemake`."
                )
        whole, first = numbers.setdefault(tuple(row[key] for key in (*GROUP, "arm", "status")), (set(row), path))
        if row["status"] == "finished" and (lacking := sorted(whole ^ set(row))):
            partly, other_path = (path, first) if lacking[0] in whole else (first, path)
            raise InputError(
                f"{partly}: has no {', '.join(lacking)}, but {other_path} has, so a mean would be over fewer runs than"
                " its n says. Delete it and run `snakemake`."
            )
        rows.append(row)
    return rows


def summarise(rows: list[dict], columns: Sequence[Metric], by: Sequence[str]) -> pd.DataFrame:
    """One line for each value of `by`: n, diverged, and mean and `_sd` of each metric over the seeds.

    The spread is the standard deviation with n - 1, empty for one seed. A diverged run counts in `diverged`, not in n.
    """
    names = [column.name for column in columns if any(column.name in row for row in rows)]
    lines = []
    for key, group in pd.DataFrame(rows).groupby(list(by), sort=False):
        finished = group[group["status"] == "finished"]
        line = dict(zip(by, key, strict=True)) | {"n": len(finished), "diverged": len(group) - len(finished)}
        for name in names:
            values = pd.to_numeric((group if name in ("parameters", "model_mb") else finished).get(name))
            line[name] = values.mean()
            if name not in ("parameters", "model_mb"):
                line[f"{name}_sd"] = values.std(ddof=1)
        lines.append(line)
    return pd.DataFrame(lines)


def printed(frame: pd.DataFrame, columns: Sequence[Metric], marked: set[str]) -> tuple[pd.DataFrame, int]:
    """A table as text, and how many of its columns are words: rounded, mean ± standard deviation, a dash if empty.

    Recipe and latent dimension are columns where they differ. The data sets `marked` bear a dagger.
    """
    shown = [column for column in columns if column.heading is not None and column.name in frame]
    several = [name for name in (("recipe", "Recipe"), ("latent_dim", "Latents")) if frame[name[0]].nunique() > 1]
    lines = []
    for row in frame.to_dict("records"):
        control = row["arm"] in CONTROL_NAMES
        line = {"Data set": row["dataset"] + (" †" if row["dataset"] in marked else "")}
        line |= {header: row[key] for key, header in several}
        line["Arm"] = CONTROL_NAMES.get(row["arm"]) or ARMS[row["arm"]].label
        if "features" in row:
            line["Features"] = EXTRACTORS[row["features"]].label
        if "n" in row:
            line["n"] = "" if control else count_of_seeds(row)
        for name in ("seed", "status"):
            line |= {name.title(): str(row[name])} if name in row else {}
        for column in shown:
            line[str(column.heading)] = cell(row, column, "" if control else "–")
        lines.append(line)
    text = pd.DataFrame(lines)
    return text, list(text).index(shown[0].heading)


def count_of_seeds(row: dict) -> str:
    """The seeds `n` that a row's numbers are of, and those whose runs `diverged`, which are not among them.

    >>> count_of_seeds({"n": 8, "diverged": 2})
    '8 (2 diverged)'
    """
    return f"{row['n']} ({row['diverged']} diverged)" if row["diverged"] else str(row["n"])


def place_in_words(row: Mapping) -> str:
    """Where a line of claims is about.

    >>> place_in_words({"dataset": "mnist", "recipe": "mlp", "latent_dim": 128})
    'mnist, z128, mlp'
    """
    return f"{row['dataset']}, z{row['latent_dim']}, {row['recipe']}"


def arms_in_words(row: Mapping) -> str:
    """The two arms of a line of claims, `bvae against vae`, by their labels."""
    return " against ".join(ARMS[arm].label for arm in row["arms"].split(" against "))


def cell(row: dict, column: Metric, nothing: str) -> str:
    """A metric of a row, with its spread if the row has one, as it is printed; `nothing` where it is empty."""
    value, spread = row[column.name], row.get(f"{column.name}_sd")
    if pd.isna(value):
        return nothing
    form, form_of_spread = (".4g", ".2g") if column.decimals is None else (f",.{column.decimals}f",) * 2
    text = f"{value * column.factor:{form}}"
    return text if spread is None or pd.isna(spread) else f"{text} ± {spread * column.factor:{form_of_spread}}"


def table1(study: dict, rows: list[dict], root: Path = Path()) -> Table:
    """Reconstruction, generation and classification: each group's arms, then its controls."""
    arms, controls = summarise(rows, TABLE1, [*GROUP, "arm"]), _controls(study, rows, root)
    frame = _below(arms, controls, GROUP)
    text, words = printed(frame, TABLE1, bounds(rows))
    caption = _caption(study, "reconstruction, generation and classification by arm.")
    notes = [on_runs(rows), *on_table1(rows), *on_empty(rows, [column.name for column in TABLE1])]
    return Table("table1", caption, frame, text, words, notes)


def _below(arms: pd.DataFrame, controls: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """The lines of each group, its controls below its arms."""
    parts = []
    for key, group in arms.groupby(list(by), sort=False):
        parts.append(group)
        if len(controls):
            parts.append(controls[(controls[list(by)] == list(key)).all(axis=1)])
    return pd.concat(parts, ignore_index=True)


def _controls(study: dict, rows: list[dict], root: Path) -> pd.DataFrame:
    """What every arm must beat, and how far real images are from real images."""
    lines = []
    for paths in group_paths(study, root):
        group = {key: paths[key] for key in GROUP}
        mine = [row for row in rows if all(row[key] == group[key] for key in GROUP)]
        untrained, pca, controls = (read_json(root / paths[name]) for name in ("untrained", "pca", "controls"))
        mean_image = controls[f"mean_image_log_likelihood_{mine[0]['likelihood']}"]
        latents = ("probe_accuracy", "probe_unbalanced_accuracy", "knn_accuracy", "trustworthiness")
        probes = OF_PROBES if protocol_of(study) == 2 else ()
        raw_pixels, majority = (
            {f"probe_{what}": controls.get(name.format(what)) for what in ("accuracy", "unbalanced_accuracy")}
            for name in ("probe_{}_raw_pixels", "majority_{}")
        )
        distances = [extractor.metric("fd") for extractor in EXTRACTORS.values()]
        floors = {  # every finished run has them
            f"{name}_samples": next((row[f"{name}_floor"] for row in mine if f"{name}_floor" in row), None)
            for name in distances
        }
        for name, values in (
            ("untrained", {key: untrained[key] for key in (*latents, *probes) if key in untrained}),
            ("pca", {key: pca[key] for key in ("mse_per_pixel", *latents) if key in pca}),
            ("raw_pixels", raw_pixels),
            ("majority", majority),
            ("mean_image", {"reconstruction": -mean_image, "elbo": mean_image}),
            ("real_images", {key: value for key, value in floors.items() if value is not None}),
        ):
            if any(value is not None for value in values.values()):
                lines.append(group | {"arm": name, "n": 1, "diverged": 0} | values)
    return pd.DataFrame(lines)


def table2(study: dict, rows: list[dict], root: Path = Path()) -> Table:
    """Generation and interpolation over the features of each extractor, with the floor: real against real images."""
    asked = [name for name, found in EXTRACTORS.items() if any(f"{found.metric('fd')}_images" in row for row in rows)]
    others = [metric.name for metric in all_metrics() if metric.table == 2 and not metric.any_features]
    by = [*GROUP, "features"]
    pairs = [(kind.name, what) for kind in KINDS for what in DECODED]
    pairs += [("fd", what) for what in PATHS if protocol_of(study) == 2]
    lines, floors = [], {}
    for extractor in asked or study["features"]:
        names = {kind.name: EXTRACTORS[extractor].metric(kind.name) for kind in KINDS}
        for row in rows:
            place = {key: row[key] for key in GROUP} | {"features": extractor}
            line = place | {key: row[key] for key in ("arm", "status")}
            line |= {name: row.get(name) for name in others}
            line |= {f"{kind}_{what}": row.get(f"{names[kind]}_{what}") for kind, what in pairs}
            lines.append(line)
            floor = {f"{kind}_{what}": row.get(f"{names[kind]}_floor") for kind, what in pairs}
            if any(value is not None for value in floor.values()):
                floors[tuple(place.values())] = place | {"arm": "real_images", "n": 1, "diverged": 0} | floor
    frame = _below(summarise(lines, TABLE2, [*by, "arm"]), pd.DataFrame(floors.values()), by)
    text, words = printed(frame, TABLE2, set())
    caption = _caption(study, "generation and interpolation by arm.")
    empty = [f"{EXTRACTORS[name].metric(kind)}_{what}" for name in asked for kind, what in pairs]
    notes = [on_runs(rows), *on_table2(rows), *on_features(rows), *on_empty(rows, empty)]
    return Table("table2", caption, frame, text, words, notes)


def table3(study: dict, rows: list[dict], root: Path = Path()) -> Table:
    """Cost by arm, from the files that one undisturbed job each has measured."""
    lines, devices = [], set()
    for paths in group_paths(study, root):
        cost = read_json(root / paths["cost"])
        group = {key: paths[key] for key in GROUP}
        arms = {run["arm"] for run in expand_runs(study) if all(run[key] == group[key] for key in GROUP)}
        devices.add(f"{cost['device']}, threads: {cost['settings']['threads']}, training in {cost['precision']}")
        whole = cost["arms"]["vae"]["parameters_total"]
        for arm, found in cost["arms"].items():
            if arm in arms:
                flat = {key: value for key, value in found.items() if not isinstance(value, list)}
                lines.append(group | {"arm": arm, "cut": 1 - found["parameters_total"] / whole} | flat)
    frame = pd.DataFrame(lines)
    text, words = printed(frame, COSTS, set())
    return Table("table3", _caption(study, "cost by arm."), frame, text, words, on_cost(sorted(devices)))


def table_of_runs(study: dict, rows: list[dict], root: Path = Path()) -> Table:
    """The appendix: one line a run."""
    flat = [{key: value for key, value in row.items() if key not in LISTS} for row in rows]
    text, words = printed(pd.DataFrame(flat), TABLE1[:1] + TABLE1[2:], bounds(rows))
    notes = [on_runs(rows, seeds=""), *on_table1(rows), *on_empty(rows, [column.name for column in TABLE1])]
    return Table("runs", _caption(study, "every run."), pd.json_normalize(flat), text, words, notes)


def _caption(study: dict, text: str) -> str:
    return f"{study['title'] or study['study']}: {text}"


def provenance(study: dict, rows: list[dict], root: Path = Path()) -> dict:
    """Where the numbers come from: code, config, data, versions, devices, seeds, protocol.

    `only_recorded` is the number of runs below `root` of which there is a record and no model.

    The `id` is the study's name and a hash of all results of its runs: equal ids, equal results.
    """
    constants = {name.lower(): value for name, value in vars(protocol).items() if name.isupper()}
    results = sorted(json.dumps(row, sort_keys=True) for row in rows)
    changes = _git("status", "--porcelain", "--", ":/", ":(exclude,top)results")
    of_records = _git("diff", "HEAD", "--name-only", "--diff-filter=MD", "--", ":/results/records")
    return {
        "study": study["study"],
        "id": f"{study['study']}-{sha256_of_json(results)[:12]}",
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": None if changes is None else bool(changes or of_records),
        "config": study,
        "config_sha256": sha256_of_json(study),
        "data_sha256": {row["dataset"]: row["dataset_sha256"] for row in rows},
        "training_version": bvae.TRAINING_VERSION,
        "evaluation_versions": versions(TASKS),
        "versions": {"bvae": bvae.__version__, "python": platform.python_version()}
        | {package: version(package) for package in PACKAGES},
        "trained_with": sorted({json.dumps(row["versions"], sort_keys=True) for row in rows}),
        "devices": sorted({row["device"] for row in rows}),
        "precisions": sorted({row["precision"] for row in rows}),
        "seeds": sorted({row["seed"] for row in rows}),
        "runs": len(rows),
        "diverged": sum(row["status"] != "finished" for row in rows),
        "only_recorded": sum(map(is_record, found_results(study, root).values())),
        "protocol": constants,
    }


def _git(*arguments: str) -> str | None:
    """What git says of the checkout that this package is in, or None where it is in none.

    A repository that only surrounds the package, or that the environment names, is another one.
    """
    top = Path(bvae.__file__).resolve().parents[1]
    own = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}

    def said(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=top, env=own, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        if Path(said("rev-parse", "--show-toplevel")).resolve() != top:
            return None
        said("ls-files", "--error-unmatch", "bvae/__init__.py")
        return said(*arguments)
    except (OSError, subprocess.CalledProcessError):
        return None


def write_tables(study: dict, folder: Path, root: Path = Path(), names: Sequence[str] = ()) -> None:
    """Write {table1,table2,table3,runs}.{csv,tex,html,json} of a study into `folder`, or those of some `names`.

    A study of protocol 2 also has `distances`. Raises InputError for another name.
    """
    known = tables_of(study)
    if unknown := [name for name in names if name not in known]:
        raise InputError(f"{unknown[0]}: no such table. Expected one of {', '.join(known)}.")
    plan = Plan(study, root)
    begun = made_from(plan, "table")
    rows = collect_runs(study, "table", root)
    facts = provenance(study, rows, root)
    for name in names or known:
        write_table(TABLES[name](study, rows, root), folder, facts)
    if not names:
        note_made_from(plan, "table", begun)


TABLES: dict[str, Callable[[dict, list[dict], Path], Table]] = dict(
    zip(ALL_TABLES, (table1, table2, table3, table_of_runs, table_of_distances), strict=True)
)
