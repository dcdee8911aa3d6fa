"""Training: the same from the same seed, paired across arms, whole after an interruption, and better than nothing."""

import json
import logging
import math
import signal
import struct
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from bvae import runs, training
from bvae.data import Dataset, to_batch
from bvae.data import dataset as data
from bvae.errors import InputError
from bvae.evaluation import protocol
from bvae.evaluation.controls import evaluate_controls, evaluate_untrained
from bvae.evaluation.cost import measure_costs
from bvae.evaluation.evaluate import evaluate_run
from bvae.networks import parameter_breakdown
from bvae.runs import Run, build_model, load_run, read_record, save_model, train_run
from bvae.system import processors
from bvae.system.files import as_line, read_lines
from bvae.training import HISTORY_COLUMNS
from helpers.small import SHORT_SWEEP, make_dataset
from helpers.studies import FOUR
from helpers.training_runs import CPU, NETWORKS, Killed, interrupt, make_run, names, read_history, results, train_into

# --- the same again -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", NETWORKS)
def test_same_seed_gives_the_same_run(fake, tmp_path, network):
    run = make_run(network=NETWORKS[network], likelihood="gaussian")
    first = train_into(run, fake, tmp_path / "a")
    torch.rand(17)  # nothing depends on the state of the global generator
    assert train_into(run, fake, tmp_path / "b") == first
    other = make_run(network=NETWORKS[network], likelihood="gaussian", seed=1)
    assert train_into(other, fake, tmp_path / "c")["history"] != first["history"]


def test_a_model_file_has_the_same_bytes_each_time(fake, tmp_path):
    """An output is a function of its inputs: a checksum of the file means something."""
    model, _ = build_model(make_run(), channels=1, size=8)
    path, written = tmp_path / "model.safetensors", set()
    for _ in range(20):
        save_model(model, path, {"seed": 0, "status": "finished"})
        written.add(path.read_bytes())
    assert len(written) == 1


def seen_by(run: Run, dataset: Dataset, folder: Path, monkeypatch) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Every batch of images and noise that training showed a run, which draws one z an image."""
    seen, loss_of = [], training.OBJECTIVES["elbo"]

    def spy(model, images, noise, *, beta, dataset_size):
        assert (noise.shape, dataset_size) == ((1, len(images), run.latent_dim), len(dataset.train_images))
        seen.append((images.clone(), noise[0].clone()))
        return loss_of(model, images, noise, beta=beta, dataset_size=dataset_size)

    with monkeypatch.context() as patch:
        patch.setitem(training.OBJECTIVES, "elbo", spy)
        train_run(run, dataset, folder, device="cpu")
    return seen


def same(first: list, second: list) -> list[bool]:
    return [torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(first, second, strict=True)]


def test_arms_see_the_same_images_and_noise(fake, tmp_path, monkeypatch):
    seen = {arm: seen_by(make_run(arm), fake, tmp_path / arm, monkeypatch) for arm in FOUR}
    assert len(seen["bvae"]) == 4 * 6
    for arm in FOUR:
        assert all(same(seen[arm], seen["bvae"])), arm
    other = seen_by(make_run(seed=1), fake, tmp_path / "other", monkeypatch)
    assert not any(same(other, seen["bvae"]))


def test_an_epoch_shows_each_image_once_and_each_epoch_another_order(fake, tmp_path, monkeypatch):
    seen = seen_by(make_run(), fake, tmp_path, monkeypatch)
    epochs = [torch.cat([images for images, _ in seen[6 * k : 6 * k + 6]]) for k in range(4)]
    everything = to_batch(fake.train_images).flatten(1)
    for epoch in epochs:
        assert torch.equal(epoch.flatten(1).sort(0).values, everything.sort(0).values)
    assert not torch.equal(epochs[0], epochs[1])
    noise = torch.cat([draw for _, draw in seen])
    assert len(noise.unique(dim=0)) == 4 * 120  # never the same twice
    assert abs(float(noise.mean())) < 5 / math.sqrt(noise.numel())
    assert float(noise.std()) == pytest.approx(1, abs=5 / math.sqrt(2 * noise.numel()))


@pytest.mark.parametrize(("batch_size", "steps", "shown"), [(50, 2, 100), (120, 1, 120), (1_000, 1, 120)])
def test_a_rest_stays_out_and_a_small_data_set_is_one_batch(fake, tmp_path, monkeypatch, batch_size, steps, shown):
    seen = seen_by(make_run(batch_size=batch_size, epochs=1), fake, tmp_path, monkeypatch)
    assert (len(seen), sum(len(images) for images, _ in seen)) == (steps, shown)


def test_to_batch_is_exact():
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(to_batch(images).flatten(), torch.arange(256) / 255)
    assert images.dtype == torch.uint8  # and its argument is left alone


@pytest.mark.parametrize(("epochs", "warmup"), [(1, 1 / 7), (3, 1 / 19), (3, 0.05)])
def test_a_warmup_of_a_single_step_is_none(fake, tmp_path, epochs, warmup):
    """The schedule has 6 steps an epoch and the step where its cosine ends: the first of them has the peak, nearly."""
    train_into(make_run(epochs=epochs, warmup=warmup, learning_rate=0.01), fake, tmp_path)
    rates = [row["learning_rate"] for row in read_history(tmp_path)]
    assert rates == sorted(rates, reverse=True)
    assert 0.0094 < rates[0] <= 0.01


def test_learning_rate_rises_to_its_peak_and_falls(fake, tmp_path):
    train_into(make_run(epochs=10, warmup=0.3, learning_rate=0.01), fake, tmp_path)
    rates = [row["learning_rate"] for row in read_history(tmp_path)]
    assert rates[0] == pytest.approx(0.01 / 25)  # the one-cycle schedule starts at a 25th
    assert rates.index(max(rates)) == 3 and max(rates) == pytest.approx(0.01, rel=1e-3)
    assert rates[3:] == sorted(rates[3:], reverse=True) and rates[-1] < 0.001


@pytest.mark.parametrize("warmup", [0, 0.0, 1e-9])
def test_a_warmup_of_none_falls_from_the_first_step_on(fake, tmp_path, warmup):
    """A cosine of as many steps as there are, 10 epochs of 6, and one: the limit of ever shorter warmups."""
    train_into(make_run(epochs=10, warmup=warmup, learning_rate=0.01), fake, tmp_path)
    rates = [row["learning_rate"] for row in read_history(tmp_path)]
    ends = 0.01, 0.01 / 25 / 1e4
    wanted = [ends[1] + (ends[0] - ends[1]) * 0.5 * (1 + math.cos(math.pi * (6 * k + 1) / 61)) for k in range(10)]
    assert rates == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("warmup", [1, 1.0])
def test_a_warmup_of_all_steps_rises_to_the_peak(fake, tmp_path, warmup):
    train_into(make_run(epochs=10, warmup=warmup, learning_rate=0.01), fake, tmp_path)
    rates = [row["learning_rate"] for row in read_history(tmp_path)]
    start = 0.01 / 25
    assert rates == pytest.approx(
        [start + (0.01 - start) * 0.5 * (1 - math.cos(math.pi * 6 * k / 60)) for k in range(10)], rel=1e-6
    )


@pytest.mark.parametrize("warmup", [0, 1])
def test_a_single_step_with_a_warmup_at_its_limits(fake, tmp_path, warmup):
    """It has the least rate where it rises, a 25th, and else the middle of the fall to the 250,000th."""
    train_into(make_run(epochs=1, batch_size=120, warmup=warmup, learning_rate=0.01), fake, tmp_path)
    [row] = read_history(tmp_path)
    assert row["learning_rate"] == pytest.approx(0.01 / 25 if warmup else (0.01 + 0.01 / 250_000) / 2)


def test_a_step_clips_the_gradient_and_returns_its_norm_before(fake):
    """With plain gradient descent at rate 1 the parameters move by the clipped gradient."""
    model = build_model(make_run(), channels=1, size=8)[0].train()
    images, noise = fake.train_images[:20], torch.randn(1, 20, make_run().latent_dim)
    loss = training.OBJECTIVES["elbo"](model, to_batch(images), noise)[0]
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    options = {"objective": "elbo", "beta": 1.0, "precision": "float32", "dataset_size": 120}
    descent = torch.optim.SGD(model.parameters(), lr=1.0)
    row = training.training_step(model, descent, gradient_clip=norm / 3, **options)(images, noise)
    assert float(row[3]) == pytest.approx(norm, rel=1e-5)
    for parameter, start, gradient in zip(model.parameters(), before, gradients, strict=True):
        torch.testing.assert_close(start - parameter.detach(), gradient / 3, rtol=1e-3, atol=1e-5)


def few(dataset: Dataset, count: int) -> Dataset:
    """The first training images of a data set."""
    return replace(dataset, train_images=dataset.train_images[:count], train_labels=dataset.train_labels[:count])


@pytest.mark.parametrize(("count", "batch_size"), [(1, 20), (40, 1)])
def test_a_batch_of_one_image_has_no_batch_statistics(fake, tmp_path, count, batch_size):
    run = make_run(network={"architecture": "mlp", "hidden": [5], "normalization": "batch"}, batch_size=batch_size)
    with pytest.raises(InputError, match="a batch has 1 image, and batch normalisation"):
        train_run(run, few(fake, count), tmp_path, device="cpu")
    with pytest.raises(InputError, match="a batch has 1 image"):  # the job of costs may come first
        measure_costs(run, few(fake, count), torch.device("cpu"))
    assert train_run(make_run(batch_size=batch_size, epochs=1), few(fake, count), tmp_path, device="cpu") == "finished"


@pytest.mark.parametrize(("count", "batch_size"), [(1, 20), (3, 1)])
def test_a_batch_of_one_image_has_no_total_correlation(fake, tmp_path, count, batch_size):
    run = make_run(epochs=1, batch_size=batch_size)
    tc, iwae = (
        replace(run, settings=run.settings | {"objective": objective})
        for objective in ({"name": "beta_tc", "beta": 4}, {"name": "iwae", "beta": 1, "samples": 3})
    )
    with pytest.raises(InputError, match="a batch has 1 image, and beta_tc"):
        train_run(tc, few(fake, count), tmp_path, device="cpu")
    assert train_run(iwae, few(fake, count), tmp_path, device="cpu") == "finished"


def test_first_step_by_hand(fake, tmp_path, monkeypatch):
    """One step of AdamW from its definition: bias-corrected moments make it lr * g / (|g| + eps), after the decay."""
    run = make_run(epochs=1, batch_size=120, gradient_clip=1e9)
    [(images, noise)] = seen_by(run, fake, tmp_path, monkeypatch)
    model, _ = build_model(run, channels=1, size=8)
    training.OBJECTIVES["elbo"](model, images, noise[None], beta=1.0)[0].backward()
    trained, _ = load_run(tmp_path)
    [row] = read_history(tmp_path)
    norm = math.sqrt(sum(float(p.grad.double().square().sum()) for p in model.parameters()))
    assert row["gradient_norm"] == pytest.approx(norm, rel=1e-5)
    after = dict(trained.named_parameters())
    for name, parameter in model.named_parameters():
        step = parameter.grad / (parameter.grad.abs() + 1e-8)
        wanted = parameter * (1 - row["learning_rate"] * 0.01) - row["learning_rate"] * step
        torch.testing.assert_close(after[name], wanted, rtol=1e-5, atol=1e-8)


def test_a_step_of_too_long_a_gradient_is_skipped(fake, tmp_path, monkeypatch):
    """One step of eighteen has its gradient blown up: the run is that of the other seventeen, by hand."""
    run = make_run(epochs=3)

    def blown_up(factor):
        steps = 0

        def objective(*args, **kwargs):
            nonlocal steps
            steps += 1
            loss, terms = elbo(*args, **kwargs)
            return (loss * factor if steps == 9 else loss), terms

        return objective

    elbo, found = training.OBJECTIVES["elbo"], {}
    for name, factor in (("long", 1e6), ("infinite", math.inf)):
        monkeypatch.setitem(training.OBJECTIVES, "elbo", blown_up(factor))
        train_into(make_run(epochs=3, gradient_skip=1e4), fake, tmp_path / name)
        found[name] = load_run(tmp_path / name)[0].state_dict()
        history = read_history(tmp_path / name)
        assert [row["skipped_steps"] for row in history] == [0, 1, 0]
        assert all(math.isfinite(value) for row in history for value in row.values())

    monkeypatch.setitem(training.OBJECTIVES, "elbo", elbo)
    seen = seen_by(run, fake, tmp_path / "whole", monkeypatch)
    model, _ = build_model(run, channels=1, size=8)
    optimizer = training.build_optimizer(model, 3e-3, 0.01)
    total = len(seen) + 1
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total, pct_start=0.1, cycle_momentum=False)
    for step, (images, noise) in enumerate(seen, start=1):
        optimizer.zero_grad()
        elbo(model, images, noise[None], beta=1.0)[0].backward()
        if step != 9:
            optimizer.step()
        schedule.step()
    for name, parameter in model.state_dict().items():
        assert torch.equal(found["long"][name], found["infinite"][name])
        torch.testing.assert_close(found["long"][name], parameter, rtol=1e-4, atol=1e-6)


def test_a_limit_that_no_step_exceeds_changes_nothing(fake, tmp_path):
    train_into(make_run(), fake, tmp_path / "whole")
    train_into(make_run(gradient_skip=1e9), fake, tmp_path / "limited")
    whole, limited = (load_run(tmp_path / name)[0].state_dict() for name in ("whole", "limited"))
    assert all(torch.equal(tensor, limited[name]) for name, tensor in whole.items())
    assert [row["skipped_steps"] for row in read_history(tmp_path / "limited")] == [0] * 4
    assert read_history(tmp_path / "whole") == read_history(tmp_path / "limited")


def test_an_epoch_of_skipped_steps_is_a_divergence(fake, tmp_path, caplog):
    assert train_run(make_run(gradient_skip=1e-9), fake, tmp_path, device="cpu") == "diverged"
    assert "in epoch 1, all of whose 6 steps were skipped (gradient_skip: 1e-09); the first: elbo -" in caplog.text
    assert read_record(tmp_path / "model.safetensors")["status"] == "diverged"
    [row] = read_history(tmp_path)
    assert row["skipped_steps"] == 6 and math.isnan(row["elbo"])


# --- interrupted ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after_batches", [1, 6, 14, 23])
@pytest.mark.parametrize("network", NETWORKS)
def test_a_resumed_run_is_the_uninterrupted_one(fake, tmp_path, monkeypatch, network, after_batches):
    run = make_run(network=NETWORKS[network], likelihood="gaussian")
    whole = train_into(run, fake, tmp_path / "whole")
    interrupt(run, fake, tmp_path / "cut", monkeypatch, after_batches=after_batches)
    assert names(tmp_path / "cut") == {"epochs.jsonl", "resume.pt"}
    seen = seen_by(run, fake, tmp_path / "cut", monkeypatch)
    assert len(seen) == 24 - after_batches  # it did go on, after the last whole step
    assert results(tmp_path / "cut") == whole


def test_the_lines_of_a_resumed_run_are_its_history(fake, tmp_path, monkeypatch):
    """Killed in its third epoch; what it had noted beyond its saved state is not there twice."""
    path = tmp_path / "cut/epochs.jsonl"
    interrupt(make_run(), fake, tmp_path / "cut", monkeypatch, after_batches=14)
    assert [line["epoch"] for line in read_lines(path)] == [1, 2]
    with path.open("a") as file:
        file.write(as_line({"epoch": 3}))
    kept = []
    with monkeypatch.context() as patch:
        patch.setattr("bvae.runs.save_model", lambda *_: kept.extend(read_lines(path)))  # when training has ended
        train_run(make_run(), fake, tmp_path / "cut", device="cpu")
    history = read_history(tmp_path / "cut")
    assert [{name: line[name] for name in history[0]} for line in kept] == history
    assert [line["epoch"] for line in history] == [1, 2, 3, 4]


def test_a_run_interrupted_twice_is_the_uninterrupted_one(fake, tmp_path, monkeypatch):
    whole = train_into(make_run(), fake, tmp_path / "whole")
    interrupt(make_run(), fake, tmp_path / "cut", monkeypatch, after_batches=8)
    interrupt(make_run(), fake, tmp_path / "cut", monkeypatch, after_batches=8)
    assert train_into(make_run(), fake, tmp_path / "cut") == whole


def test_a_run_that_dies_while_its_state_is_saved_goes_on_from_the_state_before(fake, tmp_path, monkeypatch):
    whole = train_into(make_run(), fake, tmp_path / "whole")
    save, saves = torch.save, iter(range(1000))

    def dying(state, path):
        save(state, path)
        if next(saves) == 8:
            path.write_bytes(path.read_bytes()[:1000])
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(torch, "save", dying)
        train_run(make_run(), fake, tmp_path / "cut", device="cpu", resume_interval=0)
    assert names(tmp_path / "cut") == {"epochs.jsonl", "resume.pt"}
    assert len(seen_by(make_run(), fake, tmp_path / "cut", monkeypatch)) == 24 - 8
    assert results(tmp_path / "cut") == whole


@pytest.mark.parametrize("interval", [0, 1e9])
def test_nothing_but_the_results_is_left(fake, tmp_path, interval):
    train_into(make_run(), fake, tmp_path, resume_interval=interval)
    assert names(tmp_path) == {"model.safetensors", "history.csv"}


def test_a_state_of_other_settings_or_data_is_not_used(fake, tmp_path, monkeypatch, caplog):
    whole = train_into(make_run(), fake, tmp_path / "whole")
    others = {
        "rate": (make_run(learning_rate=1e-3), fake),
        "seed": (make_run(seed=1), fake),
        "arm": (make_run("vae"), fake),
        "data": (make_run(), make_dataset(120, 90)),
    }
    for name, (run, dataset) in others.items():
        caplog.clear()
        interrupt(run, dataset, tmp_path / name, monkeypatch, after_batches=14)
        assert train_into(make_run(), fake, tmp_path / name) == whole, name
        assert any(
            record.levelno == logging.WARNING and "other settings" in record.message for record in caplog.records
        )


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def another_format(path: Path) -> None:
    torch.save([1, 2, 3], path)


@pytest.mark.parametrize(
    "damage",
    [
        truncated,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"nothing that torch reads"),
        another_format,
    ],
    ids=["truncated", "empty", "text", "another format"],
)
def test_a_damaged_state_is_not_used(fake, tmp_path, monkeypatch, caplog, damage):
    whole = train_into(make_run(), fake, tmp_path / "whole")
    interrupt(make_run(), fake, tmp_path / "cut", monkeypatch, after_batches=14)
    damage(tmp_path / "cut" / "resume.pt")
    assert train_into(make_run(), fake, tmp_path / "cut") == whole
    assert any(record.levelno == logging.WARNING and "resume.pt" in record.message for record in caplog.records)


def test_a_narrow_vae_is_loaded_by_its_recorded_layout(fake, tmp_path, monkeypatch):
    """It was narrowed when it was built; narrowing takes seconds for a large network."""
    train_into(make_run("vae_narrow"), fake, tmp_path / "run")
    monkeypatch.setattr("bvae.arms._narrowing.narrow", None)  # calling it fails
    model, record = load_run(tmp_path / "run")
    assert model.layout.hidden == tuple(record["layout"]["hidden"])
    assert 0 < model.layout.hidden[0] < 12


# --- two at once ----------------------------------------------------------------------------------------------------

TRAIN = """\
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs ignore
sys.path[:0] = {path!r}
import torch
from bvae import training
from bvae.data import dataset as data
from bvae.runs import Run, train_run
from helpers.studies import FOUR
torch.set_num_threads(1)
step = training.to_batch
def slow(images):
    time.sleep({pause})
    return step(images)
training.to_batch = slow
train_run(Run(**{run!r}), data.load({data!r}), {folder!r}, device="cpu", resume_interval=0)
"""


def start_trainer(run: Run, dataset: Dataset, folder: Path, *, pause: float = 0.05) -> subprocess.Popen:
    """Another process that trains a run, slowly; returns when it holds the run's lock and has taken a step."""
    data.save(dataset, folder.parent / "data.safetensors")
    names = {"path": sys.path, "pause": pause, "run": asdict(run), "folder": str(folder)}
    script = TRAIN.format(**names, data=str(folder.parent / "data.safetensors")).replace(
        repr(str(folder)), f"__import__('pathlib').Path({str(folder)!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (folder / "resume.pt").exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


def test_a_run_that_another_process_trains_is_waited_for_and_not_trained_twice(fake, tmp_path, monkeypatch, caplog):
    whole = train_into(make_run(), fake, tmp_path / "whole")
    orphan = start_trainer(make_run(), fake, tmp_path / "run")
    assert seen_by(make_run(), fake, tmp_path / "run", monkeypatch) == []
    assert orphan.wait() == 0
    assert results(tmp_path / "run") == whole
    assert f"held by process {orphan.pid}; waits" in caplog.text
    assert names(tmp_path / "run") == {"model.safetensors", "history.csv"}


def test_a_run_that_was_trained_while_its_trainer_waited_for_a_gpu_is_not_trained_again(fake, tmp_path, monkeypatch):
    started = time.time()
    whole = train_into(make_run(), fake, tmp_path)  # by another process, which held the only slot
    monkeypatch.setattr(runs, "_train", None)
    assert train_run(make_run(), fake, tmp_path, device="cpu", since=started - 1) == "finished"
    assert results(tmp_path) == whole
    with pytest.raises(TypeError):  # an older model, or one of other settings, is trained
        train_run(make_run(), fake, tmp_path, device="cpu", since=time.time() + 1)
    with pytest.raises(TypeError):
        train_run(make_run(seed=1), fake, tmp_path, device="cpu", since=started - 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_whose_trainer_is_killed_goes_on_at_once(fake, tmp_path, monkeypatch, number):
    whole = train_into(make_run(), fake, tmp_path / "whole")
    orphan = start_trainer(make_run(), fake, tmp_path / "run")
    orphan.send_signal(number)
    orphan.wait()
    assert "resume.pt" in names(tmp_path / "run")
    assert 0 < len(seen_by(make_run(), fake, tmp_path / "run", monkeypatch)) < 24
    assert results(tmp_path / "run") == whole
    assert "train.lock" not in names(tmp_path / "run")


def test_a_run_of_other_settings_is_trained_after_the_wait(fake, tmp_path, monkeypatch):
    whole = train_into(make_run(seed=1), fake, tmp_path / "whole")
    orphan = start_trainer(make_run(), fake, tmp_path / "run", pause=0.01)
    assert len(seen_by(make_run(seed=1), fake, tmp_path / "run", monkeypatch)) == 24
    assert orphan.wait() == 0
    assert results(tmp_path / "run") == whole


# --- diverged -------------------------------------------------------------------------------------------------------


def test_a_diverged_run_is_recorded_and_has_no_metrics(fake, tmp_path, caplog):
    status = train_run(make_run(learning_rate=1e6), fake, tmp_path, device="cpu", resume_interval=0)
    assert status == "diverged"
    assert names(tmp_path) == {"model.safetensors", "history.csv"}
    history = read_history(tmp_path)
    assert 1 <= len(history) <= 4
    assert not math.isfinite(history[-1]["elbo"] + history[-1]["gradient_norm"])
    assert all(math.isfinite(row["elbo"]) for row in history[:-1])
    where = read_record(tmp_path / "model.safetensors")["diverged_at"]
    assert where["epoch"] == len(history) and 1 <= where["step"] <= 6
    assert not math.isfinite(float(where["elbo"]) + float(where["gradient_norm"]))
    message = f"diverged in epoch {where['epoch']}, step {where['step']}: elbo {where['elbo']}, gradient norm"
    assert any(record.levelno == logging.ERROR and message in record.message for record in caplog.records)
    row = evaluate_run(tmp_path, fake, [], importance=SHORT_SWEEP, device=CPU).row
    assert (row["status"], row["arm"], row["seed"]) == ("diverged", "bvae", 0)
    assert row["parameters"] == 64 * 12 + 12 * 4 + (12 * 4 + 4) + (12 + 4) + (12 + 64)
    assert not {"elbo", "kl", "psnr", "mse_per_pixel", "probe_accuracy", "active_units"} & set(row)
    json.dumps(row, allow_nan=False)


# --- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("arm", [*FOUR, "bvae_rank4"])
def test_a_loaded_run_is_the_trained_one(fake, tmp_path, monkeypatch, arm, network):
    kept, train = [], training.train

    def keep(model, *args, **settings):
        kept.append(model)
        return train(model, *args, **settings)

    monkeypatch.setattr("bvae.runs.train", keep)
    run = make_run(arm, network=NETWORKS[network], likelihood="gaussian", epochs=2)
    train_into(run, fake, tmp_path)
    loaded, record = load_run(tmp_path)
    images, z = to_batch(fake.test_images), torch.randn(5, 4)
    with torch.no_grad():
        [model] = kept
        assert not model.training and not loaded.training
        for found, wanted in zip(loaded.encode(images), model.encode(images), strict=True):
            assert torch.equal(found, wanted)
        assert torch.equal(loaded.decode_mean(z), model.decode_mean(z))
    assert loaded.likelihood.sigma == model.likelihood.sigma != 0.1  # learned
    assert Run(**record["run"]) == run
    assert (record["status"], record["dataset_sha256"]) == ("finished", fake.sha256)
    assert (record["precision"], record["versions"]["torch"]) == ("float32", torch.__version__)


@pytest.mark.parametrize("arm", FOUR)
def test_a_model_file_holds_shared_weights_once(fake, tmp_path, arm):
    train_into(make_run(arm, epochs=1), fake, tmp_path)
    content = (tmp_path / "model.safetensors").read_bytes()
    (header,) = struct.unpack("<Q", content[:8])
    model, _ = load_run(tmp_path)
    assert len(content) - 8 - header == 4 * parameter_breakdown(model)["total"]
    shared, gain = 64 * 12 + 12 * 4, 4
    rest = (12 * 4 + 4) + (12 + 4) + (12 + 64)
    wanted = {"bvae": shared + rest, "bvae_gain": shared + rest + gain, "vae": 2 * shared + rest}
    if arm in wanted:
        assert len(content) - 8 - header == 4 * wanted[arm]


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda path: path.unlink(), "no such file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-40]), "damaged"),
        (lambda path: path.write_bytes(b"<html>"), "damaged"),
    ],
    ids=["missing", "truncated", "HTML"],
)
def test_a_broken_model_file_is_refused_by_name(fake, tmp_path, break_it, message):
    train_into(make_run(epochs=1), fake, tmp_path)
    break_it(tmp_path / "model.safetensors")
    for read in (lambda: load_run(tmp_path), lambda: read_record(tmp_path / "model.safetensors")):
        with pytest.raises(InputError, match=f"model.safetensors: {message}"):
            read()


def test_loading_a_run_leaves_the_random_numbers_of_its_caller_alone(fake, tmp_path):
    train_into(make_run(arm="vae_narrow"), fake, tmp_path)
    torch.manual_seed(3)
    wanted = torch.rand(4)
    torch.manual_seed(3)
    load_run(tmp_path)
    assert torch.equal(torch.rand(4), wanted)


def test_precisions_run_and_are_recorded(fake, tmp_path, monkeypatch):
    rows = {}
    for precision in ("float32", "bfloat16", "auto"):
        train_into(make_run(precision=precision), fake, tmp_path / precision)
        model, record = load_run(tmp_path / precision)
        wanted = processors.pick_precision("auto", CPU) if precision == "auto" else precision
        assert record["precision"] == wanted
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
        rows[precision] = evaluate_run(tmp_path / precision, fake, [], importance=SHORT_SWEEP, device=CPU).row
        assert rows[precision]["precision"] == wanted
    assert rows["auto"]["elbo"] == rows[wanted]["elbo"]
    assert rows["float32"]["elbo"] != rows["bfloat16"]["elbo"]
    assert rows["bfloat16"]["elbo"] == pytest.approx(rows["float32"]["elbo"], rel=0.02)


@pytest.mark.parametrize(
    ("instructions", "wanted"),
    [
        ({"avx512_f": True, "avx512_bf16": True, "amx_bf16": False}, "bfloat16"),
        ({"avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, "float32"),
        ({"neon": True, "bf16": True}, "bfloat16"),
        ({"neon": True}, "float32"),
    ],
)
def test_auto_is_bfloat16_on_a_cpu_that_computes_in_it(monkeypatch, instructions, wanted):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions, raising=False)  # torch 2.8 has none
    assert processors.pick_precision("auto", CPU) == wanted
    assert processors.pick_precision("float32", CPU) == "float32"  # what a recipe names is what it gets
    monkeypatch.delattr(torch.cpu, "get_capabilities")  # an older torch
    assert processors.pick_precision("auto", CPU) == "float32"


@pytest.mark.parametrize(("has", "precision", "warned"), [(0, "bfloat16", 1), (0, "auto", 0), (1, "bfloat16", 0)])
def test_bfloat16_on_a_cpu_without_it_is_said_to_be_slow(fake, tmp_path, monkeypatch, caplog, has, precision, warned):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": bool(has)}, raising=False)
    train_into(make_run(precision=precision), fake, tmp_path)
    found = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(found) == warned
    assert all("no instructions for bfloat16" in line and "`precision: auto`" in line for line in found)


def test_history_is_the_average_of_its_epoch(fake, tmp_path, monkeypatch):
    terms, loss_of = [], training.OBJECTIVES["elbo"]

    def spy(*args, **settings):
        loss, found = loss_of(*args, **settings)
        terms.append([float(term.detach().double().mean()) for term in found])
        return loss, found

    monkeypatch.setitem(training.OBJECTIVES, "elbo", spy)
    train_into(make_run(), fake, tmp_path)
    history = read_history(tmp_path)
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    assert tuple(history[0]) == HISTORY_COLUMNS
    for epoch, row in enumerate(history):
        wanted = torch.tensor(terms[6 * epoch : 6 * epoch + 6], dtype=torch.float64).mean(0)
        found = torch.tensor([row["elbo"], row["log_likelihood"], row["kl"]], dtype=torch.float64)
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


# --- it learns ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def controls(digits):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocol, "PROBE_STRENGTHS", (1.0,))
        return evaluate_controls(digits)


@pytest.mark.parametrize("arm", FOUR)
def test_training_beats_the_mean_image_and_the_untrained_encoder(digits, controls, tmp_path, monkeypatch, arm):
    settings = make_run(network={"architecture": "mlp", "hidden": [128, 64]}, epochs=40, batch_size=64).settings
    run = Run("recipe", settings, "digits", arm, 8, 0)
    monkeypatch.setattr(protocol, "PROBE_STRENGTHS", (1.0,))
    train_into(run, digits, tmp_path)
    row = evaluate_run(tmp_path, digits, [], importance=SHORT_SWEEP, device=CPU).row
    untrained = evaluate_untrained(run, digits, CPU)
    error = math.hypot(row["elbo_noise_error"], row["elbo_image_error"], 0.1)
    assert row["elbo"] > controls["mean_image_log_likelihood_bernoulli"] + 5 * error
    assert row["probe_accuracy"] > untrained["probe_accuracy"] + 3 * math.sqrt(0.25 / len(digits.test_images))
    assert read_history(tmp_path)[-1]["elbo"] > read_history(tmp_path)[0]["elbo"]
