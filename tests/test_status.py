"""`python -m bvae status`: what it says of a study is what its runs' files say."""

import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from bvae.errors import InputError
from bvae.evaluation.metrics import TASKS
from bvae.report import status
from bvae.runs import Run, train_run
from bvae.study.runs import expand_runs, results_paths
from bvae.study.unused import remove_unused, unused_runs
from bvae.system.contents import Contents
from bvae.system.files import as_line, read_lines, sha256_of_file, write_json, write_text
from bvae.system.locks import held_alone, is_held
from helpers.checkouts import ROOT, run_in
from helpers.run_results import made_today, model_today
from helpers.small import SETTINGS
from helpers.studies import check

DATA = "d" * 64  # the hash of a data set that is not there
STUDY = {
    "study": "watched",
    "blocks": [{"datasets": ["digits"], "recipes": ["mlp"], "latent_dims": [4], "seeds": [0, 1]}],
    "recipes": {"mlp": SETTINGS},
}
CHECKED = check(STUDY)
RESULTS = list(results_paths(CHECKED).values())
RUNS = [path.rpartition("/")[0] for path in RESULTS]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with the study, and a run in each state."""
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path / "watched.yaml", yaml.safe_dump(STUDY))
    for number in range(3):
        write_model(tmp_path, number)
    write_results(tmp_path, 0)
    write_results(tmp_path, 1, status="diverged")
    write_results(tmp_path, 6)  # its model was deleted: it is trained again
    write_text(tmp_path / RUNS[4] / "train.lock", "1\n")  # its process is no more
    write_text(tmp_path / f"logs/train{RUNS[4].removeprefix('results/runs')}.log", "12:00:00 error: no space left\n")
    return tmp_path


def write_results(folder: Path, number: int, **changes: object) -> None:
    """The results of one of RUNS as of today, but for `changes`."""
    row = made_today(CHECKED, expand_runs(CHECKED)[number], DATA, str(changes.get("status", "finished")))
    row["model_sha256"] = Contents(folder).sha256(f"{RUNS[number]}/model.safetensors")
    write_json(folder / RESULTS[number], row | changes)


def write_model(folder: Path, number: int) -> None:
    model_today(CHECKED, expand_runs(CHECKED)[number], folder / RUNS[number], DATA)


def test_each_state_is_what_the_files_say(folder):
    with held_alone(folder / RUNS[3] / "train.lock"):
        study, runs = status.read_status("watched.yaml")
    assert [run.run for run in runs] == RUNS
    assert [run.state for run in runs] == [
        *("done", "diverged", "trained", "training", "stopped", "waiting", "waiting", "waiting")
    ]
    assert status.describe(study, runs).splitlines() == [
        "watched: 8 runs: 1 done, 1 diverged, 1 trained, 1 training, 1 stopped, 3 waiting",
        f"{RUNS[1]}       diverged",
        f"{RUNS[3]}  training  in its first epoch",
        f"{RUNS[4]}        stopped   12:00:00 error: no space left",
    ]


def test_what_is_made_again_is_not_done(folder, monkeypatch):
    write_results(folder, 0, model_sha256="0" * 64)
    model_today(CHECKED, expand_runs(CHECKED)[1], folder / RUNS[2], DATA)  # another run's model
    study, runs = status.read_status("watched.yaml")
    assert [run.state for run in runs][:3] == ["outdated", "diverged", "outdated"]
    sha256 = sha256_of_file(folder / RUNS[0] / "model.safetensors")
    old = f"{Path(RESULTS[0]).name} was made from model_sha256 000000000000…, which is now {sha256[:12]}…"
    assert [line.split(maxsplit=2) for line in status.describe(study, runs).splitlines()[1:4]] == [
        [RUNS[0], "outdated", old],
        [RUNS[1], "diverged"],
        [RUNS[2], "outdated", "model.safetensors was made from arm bvae, which is now bvae_gain"],
    ]
    monkeypatch.setitem(TASKS, "size", replace(TASKS["size"], version=99))
    assert [run.state for run in status.read_status("watched.yaml")[1]][:3] == ["outdated", "outdated", "outdated"]


@pytest.mark.parametrize("results", ["{", "[]", "{}", '{"state": "finished"}'])
def test_results_that_cannot_be_read_are_one_line(folder, results):
    write_text(folder / RESULTS[0], results)
    study, runs = status.read_status("watched.yaml")
    assert [run.state for run in runs][:3] == ["damaged", "diverged", "trained"]
    assert sum(line.startswith(f"{RUNS[0]} ") for line in status.describe(study, runs).splitlines()) == 1


def test_a_training_says_its_epoch_its_speed_and_what_is_left(folder, fake, monkeypatch):
    """The lines are those that training appends; 30 epochs of 1,437 images at 500 a second take 86 seconds."""
    kept = []
    monkeypatch.setattr("bvae.training._append", lambda path, row: kept.append((path.name, row)))
    train_run(Run("mlp", SETTINGS, fake.name, "bvae", 3, 0), fake, folder / "elsewhere")
    assert [(name, row["epoch"], row["epochs"], row["images"]) for name, row in kept] == [
        ("epochs.jsonl", 1, 2, 120),
        ("epochs.jsonl", 2, 2, 120),
    ]
    first = kept[0][1] | {"epochs": 31, "images": 1_437, "images_per_second": 500}
    write_text(folder / RUNS[5] / "epochs.jsonl", as_line(first) + as_line(kept[1][1])[:-1])  # the second half written
    with held_alone(folder / RUNS[5] / "train.lock"):
        detail = status.read_status("watched.yaml")[1][5].detail
    assert detail == f"epoch 1/31  ELBO {first['elbo']:.3f}  500 images/s  0:01:26 left"


def test_what_is_not_finite_is_text_in_a_line(tmp_path):
    row = {"epoch": 3, "elbo": math.nan, "gradient_norm": math.inf}
    (tmp_path / "epochs.jsonl").write_text(as_line({"epoch": 2, "elbo": -0.1, "gradient_norm": 1e-300}) + as_line(row))
    first, second = read_lines(tmp_path / "epochs.jsonl")
    assert first == {"epoch": 2, "elbo": -0.1, "gradient_norm": 1e-300}
    assert math.isnan(second["elbo"]) and second["gradient_norm"] == math.inf
    with (tmp_path / "epochs.jsonl").open("a") as file:  # a trainer that was killed, and the next one
        file.write('{"epoch": 4, "el' + as_line({"epoch": 4}) + as_line({"epoch": 5}))
    assert [row["epoch"] for row in read_lines(tmp_path / "epochs.jsonl")] == [2, 3, 5]
    assert json.loads((tmp_path / "epochs.jsonl").read_text().splitlines()[1], parse_constant=pytest.fail)


def test_runs_that_no_study_means_are_listed_and_removed(folder, capsys):
    (folder / "config/mine").mkdir(parents=True)
    (folder / "config/mine/watched.yaml").write_text((folder / "watched.yaml").read_text())
    (folder / "config/claims.yaml").write_text("claims: []\n")
    old = folder / "results/runs/mlp/digits/vae-z4-seed0"  # of before runs had a key
    old.mkdir(parents=True)
    with held_alone(old / "train.lock"):
        assert unused_runs(folder / "config", folder) == []
    assert unused_runs(folder / "config", folder) == [old]
    remove_unused(Path("config"), remove=False)
    assert old.exists()
    remove_unused(Path("config"), remove=True)
    assert not (folder / "results/runs/mlp").exists()
    assert unused_runs(folder / "config", folder) == [] and (folder / RESULTS[0]).exists()
    assert "results/runs/mlp/digits/vae-z4-seed0\n1 runs" in capsys.readouterr().out
    faulty = folder / "config/mine/faulty.yaml"
    faulty.write_text("study: faulty\n")
    with pytest.raises(InputError, match="config/mine/faulty.yaml: "):
        unused_runs(folder / "config", folder)


def test_watching_ends_with_the_study(folder, monkeypatch, capsys):
    def finish(seconds: float) -> None:
        assert seconds == 5
        for number in range(len(RUNS)):
            write_model(folder, number)
            write_results(folder, number)

    monkeypatch.setattr(status.time, "sleep", finish)
    status.show("watched.yaml", 5)
    shown = capsys.readouterr().out.split(status.CLEAR)[1:]
    assert [text.splitlines()[0] for text in shown] == [
        "watched: 8 runs: 1 done, 1 diverged, 1 trained, 1 stopped, 4 waiting",
        "watched: 8 runs: 8 done",
    ]


def test_a_lock_is_held_while_its_process_lives(tmp_path):
    path = tmp_path / "a.lock"
    assert not is_held(path)
    with held_alone(path):
        assert is_held(path)
        assert path.read_text() == f"{os.getpid()}\n"
    assert not is_held(path)
    assert not path.exists()


def test_a_faulty_study_is_one_message(folder):
    done = run_in(ROOT, "-m", "bvae", "status", str(folder / "missing.yaml"))
    assert (done.returncode, done.stdout.count("\n")) == (1, 1)
    assert "missing.yaml: no such file" in done.stdout


def test_a_reader_that_has_seen_enough_is_no_error(folder):
    """`python -m bvae status ... | head -0`: it ends as other programs do, and says nothing."""
    pipe = subprocess.Popen(
        [sys.executable, "-m", "bvae", "status", str(folder / "watched.yaml")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    pipe.stdout.close()
    assert pipe.stderr.read() == ""
    assert pipe.wait() == 128 + signal.SIGPIPE


def test_without_a_workflow_any_data_set_is_taken(folder):
    """As from a wheel, outside a checkout; where there is a table of data sets, a name must be one of them."""
    assert len(status.read_status("watched.yaml")[1]) > 0
    (folder / "workflow").mkdir()
    (folder / "workflow/datasets.yaml").write_text("birds: {source: 'folder:birds'}\n")
    with pytest.raises(InputError, match="Known: birds"):
        status.read_status("watched.yaml")
