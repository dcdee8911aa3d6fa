"""Faults of the machine: full and read-only disks, no memory, no home, another locale, jumping clocks, other users."""

import contextlib
import errno
import os
import resource
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from bvae import __main__ as command_line
from bvae.data.describe import draw_sheet
from bvae.data.fetch import fetch
from bvae.errors import InputError
from bvae.evaluation.evaluate import evaluate_run
from bvae.networks import VAE
from bvae.runs import train_run
from bvae.system import locks
from bvae.system.batching import in_batches
from bvae.system.files import remove_dead_parts, whole_file, write_json, write_tensors, write_text
from bvae.system.locks import clear_stale_locks, held_alone
from helpers.checkouts import ROOT, make_checkout, run_in, snakemake
from helpers.small import SHORT_SWEEP
from helpers.training_runs import CPU, make_run, names, train_into

# --- the disk -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A limit on the size of files stands for the end of the disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


WRITERS = {
    "text": lambda path: write_text(path, "new " * 1000),
    "json": lambda path: write_json(path, ["new"] * 1000),
    "tensors": lambda path: write_tensors(path, {"new": torch.zeros(1000)}, form="test", facts={}),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_is_named_and_the_old_file_stays(tmp_path, writer):
    path = tmp_path / "results/table.json"
    write_text(path, "old")
    with files_of_at_most(1000), pytest.raises(InputError, match=rf"{path}: cannot be written .*Check the space"):
        WRITERS[writer](path)
    assert path.read_text() == "old"
    assert names(path.parent) == {path.name}


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EIO, errno.ESTALE])
@pytest.mark.parametrize("writer", WRITERS)
def test_a_folder_that_takes_no_file_is_named(tmp_path, monkeypatch, writer, code):
    def refuse(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    with pytest.raises(InputError, match=rf"table.json: cannot be written \({os.strerror(code)}\)"):
        WRITERS[writer](tmp_path / "table.json")
    assert names(tmp_path) == set()


def test_a_disk_that_fails_at_the_last_moment_is_named(tmp_path, monkeypatch):
    def refuse(source, target):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    (tmp_path / "table.json").write_text("old")
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(InputError, match="cannot be written"):
        write_text(tmp_path / "table.json", "new")
    monkeypatch.undo()
    assert (tmp_path / "table.json").read_text() == "old"
    assert names(tmp_path) == {"table.json"}


def test_results_that_are_a_file_are_refused(tmp_path):
    (tmp_path / "results").write_text("mine")
    with pytest.raises(InputError, match="results/tables/table1.csv: cannot be written"):
        write_text(tmp_path / "results/tables/table1.csv", "new")
    assert (tmp_path / "results").read_text() == "mine"


def test_training_on_a_full_disk_goes_on_without_its_state_and_ends_in_one_message(fake, tmp_path, caplog):
    with files_of_at_most(500), pytest.raises(InputError, match=r"model.safetensors: cannot be written"):
        train_run(make_run(), fake, tmp_path / "run", device="cpu", resume_interval=0)
    assert "resume.pt: the state cannot be saved, training goes on without" in caplog.text
    assert names(tmp_path / "run") == {"epochs.jsonl", "history.csv"}
    whole = train_into(make_run(), fake, tmp_path / "whole")
    assert train_into(make_run(), fake, tmp_path / "run") == whole  # with room again


def test_parts_that_a_killed_process_left_are_removed_and_those_of_a_living_one_stay(tmp_path):
    killed = subprocess.Popen(["sleep", "60"])
    killed.kill()
    killed.wait()
    with whole_file(tmp_path / "a.csv") as mine:
        dead = mine.with_name(mine.name.replace(f"-{os.getpid()}-", f"-{killed.pid}-"))
        init = mine.with_name(mine.name.replace(f"-{os.getpid()}-", "-1-"))
        elsewhere = mine.with_name(".a-00000000-1-x.part.csv")  # of another machine that shares the folder
        for path in (dead, init, elsewhere):
            path.touch()
        remove_dead_parts(tmp_path)
        assert names(tmp_path) == {mine.name, init.name, elsewhere.name}


def test_parts_of_another_user_are_left_alone(tmp_path, monkeypatch):
    """In a folder where each removes his own files only, a dead part of another's is no reason to fail."""

    def refuse(self, missing_ok=False):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    ended = subprocess.Popen(["true"])
    ended.wait()
    with whole_file(tmp_path / "a.csv") as mine:
        dead = mine.with_name(mine.name.replace(f"-{os.getpid()}-", f"-{ended.pid}-"))
        dead.touch()
        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", refuse)
            remove_dead_parts(tmp_path)
        assert names(tmp_path) == {mine.name, dead.name}


# --- paths that are not what a step expects ---------------------------------------------------------------------------

BAD_PATHS = {
    "a folder": "folder",
    "a file": "file",
    "below a file": "file/below",
    "a name that is too long": "x" * 300,
    "a missing parent": "none/none",
    "no name": "",
}


FILES_TO_WRITE = (("fetch", "--output"), ("site", "--output"), ("data describe", "--picture"), ("status", "--log"))


def arguments_of_paths() -> list[tuple[str, str]]:
    """Each step with each of its arguments that is a path; `--log` of one step, because all share it."""
    steps = command_line.build_parser()._subparsers._group_actions[0].choices
    parsers = {name: parser for name, parser in steps.items() if name != "data"}
    parsers["data describe"] = steps["data"]._subparsers._group_actions[0].choices["describe"]
    return [
        (name, (action.option_strings or [action.dest])[-1])
        for name, parser in parsers.items()
        for action in parser._actions
        if action.type is Path and (action.dest != "log" or name == "status")
    ]


def with_path(step: str, argument: str, path: str) -> list[str]:
    """The example of a step, with one of its paths replaced."""
    words = [*step.split(), *shlex.split(command_line.EXAMPLES[step].replace(" --watch", ""))]
    if not argument.startswith("-"):
        words[len(step.split())] = path
    elif argument in words:
        words[words.index(argument) + 1] = path
    else:
        words += [argument, path]
    return words


@pytest.fixture(scope="module")
def with_bad_paths(tmp_path_factory) -> Path:
    """A checkout with a data set, a small publication, a folder and a file."""
    folder = make_checkout(tmp_path_factory.mktemp("paths"))
    (folder / "folder").mkdir()
    (folder / "results").mkdir(exist_ok=True)
    shutil.copytree(ROOT / "results/published/tuning_scaling-1", folder / "results/published/tuning_scaling-1")
    shutil.copytree(ROOT / "results/published/mnist_mlp-1", folder / "results/published/mnist_mlp-1")
    fetch("sklearn:digits", name="digits", output=folder / "resources/data/digits.safetensors", expected_sha256=None)
    return folder


@pytest.mark.parametrize("bad", BAD_PATHS)
@pytest.mark.parametrize(("step", "argument"), arguments_of_paths())
def test_a_path_that_is_not_what_a_step_expects_is_a_message(with_bad_paths, monkeypatch, capsys, step, argument, bad):
    monkeypatch.chdir(with_bad_paths)
    Path("file").write_text("not what you expect\n")
    try:
        status = command_line.main(with_path(step, argument, BAD_PATHS[bad]))
    except SystemExit as error:
        status = error.code
    said = capsys.readouterr().err
    if status:
        assert "error: " in said and "Traceback" not in said
    if bad in ("below a file", "a name that is too long") and argument != "--labels":
        assert status
    if (step, argument) in FILES_TO_WRITE and bad in ("a folder", "no name"):
        assert status


def test_runs_are_not_removed_where_no_study_is_read(with_bad_paths, monkeypatch):
    """Without a study every run would be one that no study uses."""
    monkeypatch.chdir(with_bad_paths)
    run = Path("results/runs/r-12345678/digits/vae-z8-seed0")
    run.mkdir(parents=True)
    for path in ("folder", "none", "file"):
        assert command_line.main(["runs", "--config", path, "--remove"]) == 1
    assert run.is_dir()


# --- memory ---------------------------------------------------------------------------------------------------------


GPU_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def fails_above(rows: int, compute, error: Exception = GPU_MEMORY):
    """`compute`, on a machine whose memory ends above so many rows."""

    def limited(*tensors):
        if len(tensors[0]) > rows:
            raise error
        return compute(*tensors)

    return limited


@pytest.mark.parametrize("room", [1, 3, 7, 100])
def test_a_batch_that_does_not_fit_is_halved_in_order(room, caplog):
    x, y = torch.arange(23.0), torch.arange(23.0) ** 2
    found = in_batches(fails_above(room, lambda a, b: a * b), x, y, size=10)
    assert torch.equal(torch.cat(found), x * y)
    assert max(map(len, found)) <= room
    assert ("does not fit into memory: in two halves" in caplog.text) == (room < 10)


def test_a_batch_is_halved_only_for_memory():
    """cuDNN does not name memory when it has no room for a convolution. Other errors are not tried again."""
    cudnn = RuntimeError("GET was unable to find an engine to execute this computation")
    assert len(in_batches(fails_above(3, torch.exp, cudnn), torch.zeros(6), size=6)) == 2
    with pytest.raises(RuntimeError, match="shapes differ"):
        in_batches(fails_above(3, torch.exp, RuntimeError("shapes differ")), torch.zeros(6), size=6)


def test_a_row_that_does_not_fit_is_no_endless_loop():
    with pytest.raises(torch.OutOfMemoryError):
        in_batches(fails_above(0, torch.exp), torch.zeros(5), size=2)


def test_an_evaluation_that_does_not_fit_gives_the_same_metrics(fake, tmp_path, monkeypatch, caplog):
    train_into(make_run(), fake, tmp_path / "run")
    measure = {"importance": SHORT_SWEEP, "device": CPU}
    wanted = evaluate_run(tmp_path / "run", fake, [], **measure).row
    encode = VAE.encode
    monkeypatch.setattr(VAE, "encode", lambda self, images: fails_above(5, lambda x: encode(self, x))(images))
    monkeypatch.setattr("bvae.evaluation.trained.WEIGHED", 5)  # encoded together, with many draws each
    found = evaluate_run(tmp_path / "run", fake, [], **measure).row
    assert "in two halves" in caplog.text
    for name in ("elbo", "reconstruction", "kl", "psnr", "kl_per_latent", "backward_mse_per_pixel"):
        assert found[name] == pytest.approx(wanted[name], rel=1e-5)


@pytest.fixture
def failing_step(monkeypatch, tmp_path):
    """A function that runs the command of a step that raises an error, and returns its exit status."""
    monkeypatch.setattr(command_line, "_start_logging", lambda path: None)  # the root logger is other tests', too

    def run(error: BaseException, *arguments: str, step: str = "verify") -> int:
        def fail(args):
            raise error

        monkeypatch.setattr(command_line.steps, step, fail)
        name = ["bvae-z8-seed0"] if step in ("train", "evaluate") else []
        more = ["--output", str(tmp_path / "out")] if step == "rebuild" else []
        return command_line.main([step, str(tmp_path), *name, *more, *arguments])

    return run


OUT_OF_MEMORY = {
    "the GPU's": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore of it"),
    "the GPU's, by cuDNN": RuntimeError("GET was unable to find an engine to execute this computation"),
    "the GPU's, by cuBLAS": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    "the GPU's, by the driver": RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later"),
    "the CPU's, by PyTorch": RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
    "Python's": MemoryError(),
}


@pytest.mark.parametrize("fault", OUT_OF_MEMORY)
def test_a_step_without_memory_ends_in_one_message(failing_step, capsys, fault):
    assert failing_step(OUT_OF_MEMORY[fault], "--log", "step.log") == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: verify: out of memory (")
    assert "fewer jobs at once" in line
    assert ("BVAE_GPU_SLOTS=1" in line) == fault.startswith("the GPU's")


def test_another_error_of_ours_keeps_its_traceback(failing_step):
    with pytest.raises(RuntimeError, match="shapes differ"):
        failing_step(RuntimeError("shapes differ"))


@pytest.mark.parametrize(
    ("step", "goes_on"),
    [("train", True), ("evaluate", False), ("rebuild", False), ("verify", False), ("status", False)],
)
def test_an_interrupted_step_says_whether_it_goes_on_without_a_traceback(failing_step, caplog, step, goes_on):
    assert failing_step(KeyboardInterrupt(), step=step) == 130
    [line] = caplog.messages
    assert "interrupted" in line and ("goes on" in line) == goes_on


# --- other users, clocks, homes, locales ----------------------------------------------------------------------------


def test_a_lock_of_another_user_is_named(tmp_path, monkeypatch):
    def refuse(path, flags, mode=0o777):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(locks.os, "open", refuse)
    message = r".lock: cannot be locked \(Permission denied\).*another user's"
    with pytest.raises(InputError, match=f"train{message}"), held_alone(tmp_path / "train.lock"):
        pass
    with pytest.raises(InputError, match=f"bvae{message}"):
        clear_stale_locks(tmp_path / ".snakemake")


def test_a_clock_that_jumps_changes_nothing(fake, tmp_path, monkeypatch):
    whole = train_into(make_run(), fake, tmp_path / "whole")
    moments = iter(range(10**6, 0, -1000))
    monkeypatch.setattr(time, "time", lambda: float(next(moments)))
    assert train_into(make_run(), fake, tmp_path / "run") == whole


NO_HOME = {"HOME": "/dev/null/nobody"}
NO_UTF8 = {"LC_ALL": "POSIX", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def make_data_and_picture(checkout: Path, **environment: str) -> list[bytes]:
    """A data set by Snakemake and a picture of it by the command itself: their bytes."""
    data, picture = "resources/data/digits.safetensors", "Bilder ü/digits.png"
    made = snakemake(checkout, "--workflow-profile", "profiles/quick", "--forceall", "--", data, **environment)
    assert made.returncode == 0, made.stdout[-3000:]
    shown = run_in(checkout, "-m", "bvae", "data", "describe", data, "--picture", picture, **environment)
    assert shown.returncode == 0, shown.stdout
    return [(checkout / name).read_bytes() for name in (data, picture)]


def test_without_home_or_utf8_the_same_files_are_made(plan):
    """In a folder of spaces and umlauts; the same as by the functions themselves, here."""
    wanted, sheet = fetch("sklearn:digits", name="digits", output=plan / "wanted.safetensors"), plan / "wanted.png"
    draw_sheet(wanted, sheet)
    strange = NO_HOME | NO_UTF8 | {"XDG_CACHE_HOME": str(plan / ".snakemake/cache")}  # as Makefile sets it
    assert make_data_and_picture(plan, **strange) == [(plan / "wanted.safetensors").read_bytes(), sheet.read_bytes()]
    helped = run_in(plan, "-m", "bvae", "--help", **strange)
    assert helped.returncode == 0, helped.stdout
