"""TensorBoard reads from the events of a study what its runs' histories say."""

import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bvae import runs
from bvae.errors import InputError
from bvae.report import tensorboard as events
from bvae.runs import Run, train_run
from bvae.study.runs import expand_runs, results_paths, training_settings
from bvae.system.files import sha256_of_file, write_json, write_text
from bvae.training import HISTORY_COLUMNS
from helpers.run_results import made_today
from helpers.small import SETTINGS
from helpers.studies import check

STUDY = {
    "study": "watched",
    "blocks": [{"datasets": ["digits"], "recipes": ["mlp"], "latent_dims": [3], "arms": ["bvae"], "seeds": [0]}],
    "recipes": {"mlp": SETTINGS},
}
CHECKED = check(STUDY)
[RESULTS] = map(Path, results_paths(CHECKED).values())
RUN = RESULTS.parent
EVENTS = Path("events", *RUN.parts[2:])


def shown(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard reads below a folder: the steps and values of each curve."""
    found = EventAccumulator(str(folder)).Reload()
    return {name: [(event.step, event.value) for event in found.Scalars(name)] for name in found.Tags()["scalars"]}


def train(fake) -> None:
    [run] = expand_runs(CHECKED)
    settings = training_settings(CHECKED["recipes"]["mlp"], run["arm"])
    train_run(Run(**run, settings=settings), fake, RUN, resume_interval=0)


def test_events_are_the_history_also_of_a_run_at_work(fake, tmp_path, monkeypatch):
    """A run that stopped in its second epoch shows the first; when it has ended, the second is added."""
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path / "watched.yaml", yaml.safe_dump(STUDY))

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(runs, "write_text", stop)  # when training has ended and history.csv is to be written
        train(fake)
    seen = []

    def wait(seconds: float) -> None:
        seen.append((seconds, shown(tmp_path / EVENTS)))
        train(fake)
        [run] = expand_runs(CHECKED)
        sha256 = sha256_of_file(RUN / "model.safetensors")
        write_json(RESULTS, made_today(CHECKED, run, fake.sha256) | {"model_sha256": sha256})

    monkeypatch.setattr(events.time, "sleep", wait)
    assert events.write_events("watched.yaml", tmp_path / "events", every=7) == 2
    [(seconds, before)] = seen
    history = pd.read_csv(RUN / "history.csv")
    for times in range(2):
        after = shown(tmp_path / EVENTS)
        assert set(after) == {f"training/{name}" for name in HISTORY_COLUMNS if name != "epoch"}
        for name, curve in after.items():
            assert curve == [(1, pytest.approx(history[name[9:]][0])), (2, pytest.approx(history[name[9:]][1]))]
            assert times or before[name] == curve
        assert events.write_events("watched.yaml", tmp_path / "events", every=None) == 2  # again: nothing stands twice
    assert seconds == 7


def test_a_run_without_an_epoch_has_no_events(tmp_path):
    assert events.read_history(tmp_path) == []
    write_text(tmp_path / "epochs.jsonl", '{"epoch": 1')
    assert events.read_history(tmp_path) == []


def test_without_tensorboard_it_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match=r"pip install tensorboard"):
        events.write_events("watched.yaml", tmp_path / "events", every=None)
    assert not (tmp_path / "events").exists()
