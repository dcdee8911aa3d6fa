"""Records: what git keeps of a run without its model, which counts as the run where the model is not.

Beside them are the networks of the references that the runs saw, so that the runs still to come, perhaps on another
machine, are compared over the same features.
"""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from bvae.errors import InputError
from bvae.report.made_from import Plan, results_of
from bvae.report.outdated import outdated
from bvae.study.runs import (
    beside,
    command_of,
    record_of,
    recorded_reference,
    reference_path,
    results_paths,
    write_sums,
)
from bvae.system.files import copy_whole, sha256_of_file


def write_records(study: dict, root: Path = Path()) -> tuple[int, int]:
    """Copy results and history of every evaluated run of a checked study to results/records/, to be committed.

    Beside them are their hashes, so that a record that was changed later is noticed, and the networks of the references
    that the runs saw. Returns how many records are new, and of how many runs there is one now. Raises InputError for a
    run that is outdated, where a reference is missing, and where another record of a run or of a reference is there:
    what was committed stays.
    """
    paths = [path for path in results_paths(study, root).values() if (root / path).exists()]
    plan = Plan(study, root)
    wanted = {*paths, *(beside(path, "model.safetensors") for path in paths)}
    of_runs = [result for result in results_of(plan) if result.path in wanted]
    for path, reason in outdated(plan, of_runs, known_only=True).items():
        raise InputError(f"{root / path} {reason}. Run `{command_of(study)}`, which makes it again.")
    if paths and not study["tuning"]:
        _record_references(plan, {Path(path).parts[3] for path in paths})
    new = 0
    for path in paths:
        record = root / record_of(path, root)
        files = {root / source: record.with_name(Path(source).name) for source in (beside(path, "history.csv"), path)}
        for source, copy in files.items():
            if copy.exists() and sha256_of_file(copy) != sha256_of_file(source):
                raise InputError(
                    f"{copy}: is the record of another run than {source}. If you made the run again on purpose, delete"
                    " the folder of the record; otherwise delete the folder of the run."
                )
        new += not record.exists()
        write_sums(record.parent, {copy.name: sha256_of_file(source) for source, copy in files.items()})
        for source, copy in files.items():  # the results last: with them the record is whole
            if not copy.exists():
                copy_whole(source, copy)
    return new, len(paths)


def _record_references(plan: Plan, data_sets: Collection[str]) -> None:
    """Of these data sets."""
    from bvae.evaluation.references import load_reference, save_reference

    root = plan.contents.root
    for dataset in sorted(data_sets):
        for name in plan.study["features"]:
            here, record = root / reference_path(dataset, name), root / recorded_reference(dataset, name)
            if not here.exists():
                raise InputError(
                    f"{here}: no such file, and the runs' distances are over its network, which has to be recorded with"
                    " them. Run `snakemake`, which makes it again, on the machine that made the runs."
                )
            reference = load_reference(here)
            if not record.exists():
                save_reference(replace(reference, features=None), record)
            elif load_reference(record).identity != reference.identity:
                raise InputError(
                    f"{here}: another network than that of {record}, which the recorded runs saw, so their distances"
                    f" cannot be compared. Delete {here} and run `snakemake`: it takes the recorded network, and"
                    " evaluates the runs again."
                )
