"""Runs that no study uses any more: listed, and removed when asked."""

import shutil
from pathlib import Path

from bvae.errors import InputError
from bvae.study.config import check_study, known_datasets
from bvae.study.runs import FOLDER, run_folders
from bvae.system.files import read_yaml
from bvae.system.locks import is_held


def unused_runs(config: Path, root: Path = Path()) -> list[Path]:
    """The folders of runs below `root` that no study in the folder `config` uses and no process trains, in order.

    Raises InputError for a study with a fault, because what it uses is not known, and where there is no study, because
    every run would then be listed.
    """
    used: set[Path] = set()
    studies = 0
    for path in sorted(path for path in config.rglob("*") if path.suffix in (".yaml", ".yml", ".json")):
        study = read_yaml(path)
        if isinstance(study, dict) and "study" in study:  # claims.yaml is none
            try:
                checked = check_study(study, datasets=known_datasets(root / "workflow"))
            except InputError as error:
                raise InputError(f"{path}: {error}") from None
            used |= {root / folder for folder in run_folders(checked, root).values()}
            studies += 1
    if not studies:
        raise InputError(f"{config}: found no study, expected the folder of the studies, as config. Give that folder.")
    unused = {path for path in (root / FOLDER).glob("*/*/*") if path.is_dir()} - used
    return sorted(path for path in unused if not is_held(path / "train.lock"))


def remove_unused(config: Path, *, remove: bool, root: Path = Path()) -> None:
    """Print the unused runs, and remove them if asked, with folders that are then empty."""
    found = unused_runs(config, root)
    for folder in found:
        print(folder)
        if remove:
            shutil.rmtree(folder)
            for parent in (folder.parent, folder.parent.parent):
                if not any(parent.iterdir()):
                    parent.rmdir()
    print(f"{len(found)} runs that no study in {config} uses{': removed' if remove and found else ''}")
