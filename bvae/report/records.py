"""Records: what git keeps of a run without its model, which counts as the run where the model is not."""

import shutil
from pathlib import Path

from bvae.errors import InputError
from bvae.report.outdated import Plan, beside, outdated, results_of
from bvae.study.runs import RECORDS, results_paths
from bvae.system.files import sha256_of_file, whole_file


def write_records(study: dict, root: Path = Path()) -> tuple[int, int]:
    """Copy results and history of every evaluated run of a checked study to results/records/, to be committed.

    Returns how many records are new, and of how many runs there is one now. Raises InputError for a run that is
    outdated, and where another record of it is there: what was committed stays.
    """
    paths = [path for path in results_paths(study, root).values() if (root / path).exists()]
    plan = Plan(study, root)
    of_runs = [result for result in results_of(plan) if result.path in paths]
    for path, reason in outdated(plan, of_runs, known_only=True).items():
        raise InputError(f"{root / path} {reason}. Run `snakemake`, which makes it again.")
    new = 0
    for path in paths:
        target = root / RECORDS / Path(path).relative_to("results/runs")
        if not target.exists():
            new += 1
            for source in (beside(path, "history.csv"), path):  # the results last: with them the record is whole
                with whole_file(target.with_name(Path(source).name)) as copy:
                    shutil.copyfile(root / source, copy)
        elif sha256_of_file(target) != sha256_of_file(root / path):
            raise InputError(
                f"{target}: is the record of another {path}. Delete one of the two: the record, if the run was made"
                " anew on purpose; else the run's folder."
            )
    return new, len(paths)
