"""Publishing a study: its data, the views that people read, and a manifest of hashes; checking runs against it."""

import contextlib
import csv
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from bvae.errors import InputError
from bvae.report.figures import FIGURES, kinds_of
from bvae.report.made_from import CLAIMS, Plan, files_made, results_of, rules_of
from bvae.report.outdated import outdated
from bvae.report.published_data import DATA_FILE, collect_data, read_errors, write_data
from bvae.study.runs import command_of, data_path, found_results, is_record, run_name, study_folder
from bvae.system.files import copy_whole, read_json, sha256_of_file, whole_file, write_json

log = logging.getLogger(__name__)

FORMAT = 2  # of a publication; 1 had each view in every format, and no data
VIEWS = (".csv", ".md", ".png")  # what people and pages read; the other formats are made from the data again
MODELS = "models"  # the folder of the models that a study publishes
MODEL_FILES = ("model.safetensors", "model_card.md")
COLOURS = (256, 64, 16)  # of a published picture, 256 being a third of the bytes of all colours
NOT_PUBLISHED = "not the file that was published, or missing"
OF_VERDICTS = (  # what a publication keeps under one version
    *("role", "claim", "test", "task", "dataset", "recipe", "latent_dim", "arms", "metric", "margin", "verdict"),
)
CRATE = "ro-crate-metadata.json"
PICTURE_BYTES = 200_000  # at most, of a published picture


def publish(study: dict, output: Path, root: Path = Path(), *, claims: str = CLAIMS) -> None:
    """Write the finished study's data to `output`, with its tables, claims and pictures, and `manifest.json`.

    The data (bvae/report/published_data.py) are all that tables, claims and figures of numbers are made from. Tables
    are copied as csv, claims also as md, and pictures as PNG of fewer colours: those of models, which the data cannot
    make again, and those of the whole study. The models that the study's `published_models` names are in models/, a
    folder for each arm, from which `load_run` loads; then there are pictures of their networks alone. The manifest
    names the SHA-256 of every published file, and of the model and results of every run behind them.
    Raises InputError when a file, a run or one of those models is missing or outdated, and when `output` holds other
    runs than these, or other claims, margins or verdicts: what was cited stays. Tables and figures of the same runs are
    replaced, unless that needs runs of which there are only records now. The provenance is that of the code and of the
    study as they are now: the tables are current. `claims` is the path of the claims.
    """
    from bvae.data import load  # with torch and pandas, which `crate` does without
    from bvae.report.model_cards import write_card
    from bvae.report.tables import collect_runs, provenance

    source, plan = root / study_folder(study), Plan(study, root, claims=claims)
    models = _models(plan)
    made = [result for result in results_of(plan) if result.path.startswith("results/")]
    for path, reason in outdated(plan, made, known_only=True).items():
        raise InputError(f"{root / path} {reason}. Run `{command_of(study)}` to its end first.")
    made_of_study = _made(plan)
    names = [name for name in made_of_study if name.endswith(VIEWS) and not _made_from_data(name)]
    runs = {name: _hashes(root, results) for name, results in plan.results.items()}
    published = output / "manifest.json"
    if published.exists():
        before = read_manifest(output)
        same = {"runs": runs_of(before) == runs, "claims": _verdicts(output) == _verdicts(source)}
        for what in (what for what, kept in same.items() if not kept):
            raise InputError(
                f"{output}: other {what} are published as version {study['version']} of this study. Raise `version` in"
                " its config to publish these beside them, or delete that folder if nobody has cited it."
            )
        _refuse_losses(plan, output, before, names)
    facts = provenance(study, collect_runs(study, rules_of(study)[-1], root), root)
    rows = {results: read_json(root / results) for results in models}
    datasets = {name: load(root / data_path(name)) for name in {row["dataset"] for row in rows.values()}}
    for name in names:
        (shrink_picture if name.endswith(".png") else copy_whole)(source / name, output / name)
    for results, folder in models.items():
        copy_whole(root / results.with_name(MODEL_FILES[0]), output / folder / MODEL_FILES[0])
        row = rows[results]  # the run's own card may be of another evaluation
        write_card(output / folder, datasets[row["dataset"]], row)
        names += [f"{folder}/{name}" for name in MODEL_FILES]
    write_data(collect_data(plan), output / DATA_FILE)
    files = {name: sha256_of_file(output / name) for name in (DATA_FILE, *names)}
    manifest = {
        "format": FORMAT,
        "study": study["study"],
        "version": study["version"],
        "provenance": facts,
        "files": files,
        "runs": runs,
    }
    write_json(published, manifest)
    if (crate := output / CRATE).exists():
        crate.unlink()
        log.warning("%s: described what was published before, and is removed. Run `python -m bvae crate` again.", crate)
    if facts["uncommitted_changes"]:
        log.warning(
            "%s: made from code with uncommitted changes, which nobody else has. Commit, and publish again.", output
        )
    for part in ("tables", "figures", MODELS):
        for old in sorted((output / part).rglob("*"), reverse=True):  # what a folder holds comes before it
            if old.is_dir():
                with contextlib.suppress(OSError):  # not empty
                    old.rmdir()
            elif old.relative_to(output).as_posix() not in files:
                old.unlink()


def _verdicts(folder: Path) -> list[dict[str, str]]:
    """The claims in a folder with their margins and verdicts; none where there are none, as of a study that tunes."""
    try:
        with (folder / "claims.csv").open(encoding="utf-8", newline="") as file:
            return [{name: line.get(name, "") for name in OF_VERDICTS} for line in csv.DictReader(file)]
    except FileNotFoundError:
        return []


def _refuse_losses(plan: Plan, output: Path, before: dict, names: Sequence[str]) -> None:
    """Raise InputError when a publication has what the runs made that are only recorded now: pictures and errors."""
    lost = [name for name in before["files"] if name.startswith("figures/") and name not in names]
    lost = [name for name in lost if plan.recorded and (output / name).exists() and not _made_from_data(name)]
    tables = [folder / "comparisons.csv" for folder in (output, plan.contents.root / study_folder(plan.study))]
    if plan.recorded and all(table.exists() for table in tables):
        had, has = (len(read_errors(table)) for table in tables)
        lost += ["the standard errors over images"] if has < had else []
    if lost:
        raise InputError(
            f"{output}: holds {lost[0]}, which cannot be made again from records: publishing would remove it. Publish"
            " where the runs are."
        )


def _models(plan: Plan) -> dict[Path, str]:
    """The folder in the publication for the model of each run that is published with it, by the path of its results."""
    found: dict[Path, str] = {}
    if (wanted := plan.study.get("published_models")) is None:
        return found
    for run in plan.runs:
        if wanted.items() <= run.items():
            results = Path(plan.results[run_name(run)])
            if not (plan.contents.root / results.with_name(MODEL_FILES[0])).exists():
                raise InputError(
                    f"{results.with_name(MODEL_FILES[0])}: no such file, and `published_models` asks for it. Run"
                    " `snakemake`, or choose a seed whose models are here: a run that is only recorded has none."
                )
            place = f"{MODELS}/{run['recipe']}-{run['dataset']}-z{run['latent_dim']}"
            found[results] = f"{place}/{run['arm']}"
    return found


def shrink_picture(source: Path, target: Path) -> None:
    """Write a PNG with a palette of 256 colours, which a reader hardly sees, and fewer where it is still too large.

    The same picture gives the same bytes every time.
    """
    with Image.open(source) as picture, whole_file(target) as part:
        for colours in COLOURS:
            picture.convert("RGB").quantize(colours).save(part, format="PNG", optimize=True)
            if part.stat().st_size <= PICTURE_BYTES:
                break


def _made(plan: Plan) -> list[str]:
    """The files of a study that may be published, from its folder: diagrams are of no study."""
    study = plan.study
    files = [path for rule in rules_of(study) for path in files_made(plan, rule)]
    if not study["tuning"]:
        kinds = [rule for rule in kinds_of(study) if rule != "diagrams"]
        for group in plan.groups:
            made = [path for rule in kinds for path in files_made(plan, rule, group)]
            files += [path for path in made if not path.endswith(".png") or _pictured(study, group)]
    return [Path(path).relative_to(study_folder(study)).as_posix() for path in files]


def _pictured(study: dict, group: dict) -> bool:
    """Whether pictures of this network are published: of each, or of those whose models are, to keep git small."""
    models = study.get("published_models") or {}
    return all(group[key] == models.get(key, group[key]) for key in ("recipe", "dataset"))


def _made_from_data(name: str) -> bool:
    """Whether it is a figure of one network's numbers, which `rebuild` makes."""
    kind = FIGURES.get(Path(name).stem)
    return kind is not None and not kind.models


def _files(results: Path) -> dict[str, Path]:
    """The two files of a run that a manifest names, by their names in it: those of metrics have no key there."""
    part = "metrics.json" if results.name.startswith("metrics-") else results.name
    return {part: results, "model.safetensors": results.with_name("model.safetensors")}


def runs_of(manifest: dict) -> dict[str, dict[str, str]]:
    """The hashes of each run of a manifest by the run's name, which older ones write as a folder of results/runs/."""
    return {name.removeprefix("results/runs/"): files for name, files in manifest["runs"].items()}


def read_manifest(published: Path) -> dict:
    """What a published study says of itself. Raises InputError when `published` is no folder of one."""
    path = published / "manifest.json"
    if not path.exists():
        raise InputError(
            f"{path}: no such file. Wanted the folder of a published study, such as results/published/mnist-1."
        )
    manifest: Any = read_json(path)
    parts = {"study": str, "files": dict, "runs": dict, "provenance": dict}
    for part, kind in parts.items():
        if not isinstance(manifest, dict) or not isinstance(manifest.get(part), kind):
            raise InputError(
                f"{path}: expected a manifest with '{part}', found none. Get it again, for example from git."
            )
    if not isinstance(manifest["provenance"].get("config"), dict):
        raise InputError(f"{path}: its provenance has no 'config'. Get it again, for example from git.")
    return manifest


def changed_files(published: Path) -> list[str]:
    """The files of a published study that are missing, or are not those of its manifest."""
    files = read_manifest(published)["files"]
    return [
        name
        for name, sha256 in files.items()
        if not (published / name).is_file() or sha256_of_file(published / name) != sha256
    ]


def refuse_changed(published: Path) -> None:
    """Raise InputError for the first of the `changed_files` of a published study."""
    for name in changed_files(published):
        raise InputError(f"{published / name}: {NOT_PUBLISHED}. Get it again, for example from git.")


def newest(published: Path) -> dict[str, Path]:
    """The folder of each study's newest version below `published`, by the study's name."""
    manifests = [(read_json(path), path.parent) for path in sorted(published.glob("*/manifest.json"))]
    manifests.sort(key=lambda found: found[0].get("version", 1))
    return {manifest["study"]: folder for manifest, folder in manifests}


def verify(published: Path, root: Path = Path()) -> tuple[list[str], bool]:
    """Compare the runs below `root` with those that a published study was made from, and records of runs not there.

    Returns a line for each run that is here, one for each published file that is not that of the manifest, and one of
    all; and whether there is no difference, bit for bit. A record has no model, but says the model's SHA-256. Where the
    results differ, the metric that differs most is named, as a share of the published value. Raises InputError when
    `published` holds no manifest or no run of it is here.
    """
    manifest = read_manifest(published)
    runs = runs_of(manifest)
    here = found_results(manifest["provenance"]["config"], root)
    lines, same, recorded, others = [], 0, 0, changed_files(published)
    for run, files in runs.items():
        hashes = _hashes(root, here[run])
        if not files.keys() <= hashes.keys():
            continue
        changed = [name for name, wanted in files.items() if hashes[name] != wanted]
        same += not changed
        recorded += is_record(here[run])
        found = "as published, bit for bit" if not changed else f"{' and '.join(sorted(changed))} differ"
        if any(name.endswith(".json") for name in changed) and "tables/runs.csv" not in others:
            found += _largest_difference(root / here[run], published, run.partition("/")[0])
        lines.append(f"{run}: {found}")
    if not lines:
        raise InputError(
            f"{published}: none of its {len(runs)} runs is here, nor a record of one. Make one, for example:"
            f" {command_of(manifest)} -- {next(iter(here.values()))}"
        )
    total = f"{same} of {len(lines)} runs here are as published; {len(runs)} were published"
    total += f"; {recorded} of those here are only records" if recorded else ""
    changed = [f"{published / name}: {NOT_PUBLISHED}" for name in others]
    return [*lines, *changed, total], same == len(lines) and not changed


def _hashes(root: Path, results: str) -> dict[str, str]:
    """The SHA-256 of the files of a run that are here, by their names in a manifest; a record says its model's."""
    hashes = {name: sha256_of_file(path) for name, path in _files(root / results).items() if path.exists()}
    if is_record(results):
        hashes["model.safetensors"] = read_json(root / results).get("model_sha256", "")
    return hashes


def _largest_difference(results: Path, published: Path, recipe: str) -> str:
    """The number of a run's results that is farthest from the published one, relative to it."""
    import pandas as pd

    path, row = published / "tables/runs.csv", read_json(results) | {"recipe": recipe}
    if not path.exists():  # a study that tunes
        return ""
    frame = pd.read_csv(path)
    names = ["recipe", "dataset", "arm", "latent_dim", "seed"]
    [mine] = frame[(frame[names] == [row[name] for name in names]).all(axis=1)].to_dict("records")
    differences = {
        name: abs(row[name] / value - 1)
        for name, value in mine.items()
        if isinstance(row.get(name), float) and isinstance(value, float) and value not in (0, row[name])
    }
    if not differences:
        return ", in no number"
    farthest = max(differences, key=differences.__getitem__)
    return f", most in {farthest}, by {100 * differences[farthest]:.2g} %"
