"""Records: what git keeps of a run without its model, which counts as the run where the model is not."""

import shutil
from pathlib import Path

from bvae.errors import InputError
from bvae.report.outdated import Plan, outdated, results_of
from bvae.study.runs import beside, record_of, results_paths
from bvae.system.files import sha256_of_file, whole_file


def write_records(study: dict, root: Path = Path()) -> tuple[int, int]:
    """Copy results and history of every evaluated run of a checked study to results/records/, to be committed.

    Returns how many records are new, and of how many runs there is one now. Raises InputError for a run that is
    outdated, and where another record of it is there: what was committed stays.
    """
    paths = [path for path in results_paths(study, root).values() if (root / path).exists()]
    plan = Plan(study, root)
    wanted = {*paths, *(beside(path, "model.safetensors") for path in paths)}
    of_runs = [result for result in results_of(plan) if result.path in wanted]
    for path, reason in outdated(plan, of_runs, known_only=True).items():
        raise InputError(f"{root / path} {reason}. Run `snakemake`, which makes it again.")
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
        for source, copy in files.items():  # the results last: with them the record is whole
            if not copy.exists():
                with whole_file(copy) as part:
                    shutil.copyfile(source, part)
    return new, len(paths)
