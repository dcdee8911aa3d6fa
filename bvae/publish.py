"""Publishing a study: its tables and figures, what they were made from, and a manifest of hashes."""

import shutil
from pathlib import Path

from bvae.config import expand_runs, results_name, run_folder
from bvae.files import InputError, read_json, sha256_of_file, write_json


def publish(study: dict, output: Path, root: Path = Path()) -> None:
    """Copy the finished study's tables, figures and claims to `output`, with `manifest.json` beside them.

    The manifest names the SHA-256 of every published file, and of the model and results of every run behind them.
    Raises InputError when a table or a run is missing. Files of an earlier publication of the study are replaced.
    """
    source = root / "results/studies" / study["study"]
    files = sorted(path for part in ("tables", "figures", ".") for path in (source / part).glob("*.*"))
    table = "tuning.json" if study["tuning"] else "tables/table1.json"
    if not (source / table).exists():
        raise InputError(f"{source}: the study is not finished: no {table}. Run `snakemake` to its end first.")
    runs = {}
    for run in expand_runs(study):
        folder = run_folder(**run)
        paths = [root / folder / name for name in (results_name(study), "model.safetensors")]
        if missing := [str(path) for path in paths if not path.exists()]:
            raise InputError(f"{folder}: {', '.join(missing)} missing. Run `snakemake` to its end first.")
        runs[folder] = {path.name: sha256_of_file(path) for path in paths}
    for part in ("tables", "figures"):
        shutil.rmtree(output / part, ignore_errors=True)
    for path in files:
        target = output / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    manifest = {
        "study": study["study"],
        "provenance": read_json(source / table)["provenance"],
        "files": {str(path.relative_to(source)): sha256_of_file(path) for path in files},
        "runs": runs,
    }
    write_json(output / "manifest.json", manifest)
