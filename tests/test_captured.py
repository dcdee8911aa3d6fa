"""A step of training as one graph: the same bytes, no question of the device, and nothing left of the capture.

The graph itself needs a GPU. Where there is none, a stand-in runs the step again in place of the graph: what is around
it, the buffers, what is set back and the loop, is then tested all the same.
"""

import contextlib
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from bvae import training
from bvae.networks import BVAE, plan
from bvae.objective import OBJECTIVES, Gaussian
from bvae.runs import load_run
from bvae.system import processors
from helpers.small import make_dataset
from helpers.training_runs import CPU, interrupt, make_run, read_history, train_into

CUDA = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))
MLP = {"architecture": "mlp", "hidden": [12]}
CONV = {"architecture": "conv", "width": 4, "neck": 3, "hidden": [6], "normalization": "batch"}
RESNET = {"architecture": "resnet", "width": 4, "neck": 3, "hidden": [6], "normalization": "gain"}
CASES = {
    "mlp": {"network": MLP},
    "conv, batch normalisation": {"network": CONV},
    "resnet, gains, bounded": {"network": RESNET | {"log_variance_bound": 10}},
    "iwae": {"objective": {"name": "iwae", "samples": 3, "beta": 1}},
    "beta_tc": {"objective": {"name": "beta_tc", "beta": 4.0}},
    "beta": {"objective": {"name": "elbo", "beta": 2.0}},
    "a learned sigma": {"likelihood": {"name": "gaussian", "learned": True}},
    "a fixed sigma": {"likelihood": {"name": "gaussian", "sigma": 0.3}},
    "bfloat16": {"precision": "bfloat16"},
    "one epoch": {"epochs": 1},
    "a data set smaller than a batch": {"batch_size": 500},
    "skipped steps": {"gradient_skip": 6.7},
    "weight decay and clipping": {"weight_decay": 0.1, "gradient_clip": 5.0},
}


def stand_in(run, device, *, before_capture):
    """For `as_graph`: as many steps before, and a replay that runs the step and fills the same tensor."""
    for _ in range(training.STEPS_BEFORE_CAPTURE):
        run()
    before_capture()
    row = run()
    return row, lambda: row.copy_(run())


@pytest.fixture
def graphs(monkeypatch) -> list:
    """Make the CPU capture its steps by the stand-in; a list of the captures."""
    made: list[int] = []

    def as_graph(run, device, *, before_capture):
        made.append(1)
        return stand_in(run, device, before_capture=before_capture)

    monkeypatch.setattr(training, "as_graph", as_graph)
    return made


def capture(monkeypatch, wanted: bool) -> None:
    monkeypatch.setattr(training, "captures", lambda device: wanted)


def same_runs(first: Path, second: Path) -> bool:
    models = [(folder / "model.safetensors").read_bytes() for folder in (first, second)]
    return models[0] == models[1] and read_history(first) == read_history(second)


@pytest.mark.parametrize("arm", ["bvae_gain", "vae"])
@pytest.mark.parametrize("name", CASES)
def test_a_captured_run_has_the_bytes_of_an_uncaptured_one(fake, tmp_path, monkeypatch, graphs, name, arm):
    run = make_run(arm, **{"epochs": 2} | CASES[name])
    for wanted in (False, True):
        capture(monkeypatch, wanted)
        train_into(run, fake, tmp_path / str(wanted))
    assert len(graphs) == 1
    assert same_runs(tmp_path / "False", tmp_path / "True")
    if name == "skipped steps":
        assert 0 < sum(row["skipped_steps"] for row in read_history(tmp_path / "True")) < 12


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", CASES)
def test_a_graph_gives_the_bytes_of_the_loop(fake, tmp_path, monkeypatch, name):
    run = make_run("bvae_gain", **{"epochs": 2} | CASES[name])
    for wanted in (False, True):
        capture(monkeypatch, wanted)
        train_into(run, fake, tmp_path / str(wanted), device="cuda")
    assert same_runs(tmp_path / "False", tmp_path / "True")


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_a_killed_captured_run_goes_on_with_the_same_bytes(fake, tmp_path, monkeypatch, graphs, device):
    """The saved state is loaded before the capture, which leaves nothing behind."""
    if device == "cuda":
        monkeypatch.undo()
    else:
        capture(monkeypatch, True)
    run = make_run(epochs=3)
    train_into(run, fake, tmp_path / "whole", device=device)
    interrupt(run, fake, tmp_path / "killed", monkeypatch, after_batches=9, device=device)
    assert (tmp_path / "killed/resume.pt").exists()
    train_into(run, fake, tmp_path / "killed", device=device)
    assert same_runs(tmp_path / "whole", tmp_path / "killed")


def test_the_capture_leaves_no_trace(graphs):
    """Model and moments are as before, in the same places: those of a new optimiser, and of one that has stepped."""
    layout = plan(CONV, channels=1, size=8, latent_dim=3)
    model = BVAE(layout, Gaussian(learned=True)).train()
    optimizer = training.build_optimizer(model, 0.01, 0.1)
    options = {"objective": "elbo", "beta": 1.0, "gradient_clip": 5.0, "precision": "float32", "dataset_size": 120}
    step = training.training_step(model, optimizer, **options)
    images, noise = make_dataset(120, 10).train_images[:20], torch.randn(1, 20, 3)
    for steps_before in (0, 2):
        for _ in range(steps_before):
            step(images, noise)
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        places = {name: tensor.data_ptr() for name, tensor in model.state_dict().items()}
        moments = {of: {k: v.clone() for k, v in state.items()} for of, state in optimizer.state.items()}
        training.captured(step, model, optimizer, images, noise)
        after = model.state_dict()
        assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
        assert {name: tensor.data_ptr() for name, tensor in after.items()} == places
        for of, state in optimizer.state.items():
            for name, tensor in state.items():
                assert torch.equal(tensor, moments[of][name] if of in moments else torch.zeros_like(tensor))


class NothingAsked(TorchDispatchMode):
    """Raise where a number is read from a tensor, for which a GPU would have to finish first."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func is not torch.ops.aten._local_scalar_dense.default
        return func(*args, **kwargs or {})


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("gradient_skip", [math.inf, 100.0])
def test_a_step_reads_no_number_from_the_device(objective, gradient_skip):
    layout = plan(RESNET | {"log_variance_bound": 10}, channels=1, size=8, latent_dim=3)
    model = BVAE(layout, Gaussian(0.2), latent_gain=True).train()
    step = training.training_step(
        model,
        training.build_optimizer(model, 0.01, 0.1),
        objective=objective,
        beta=1.0,
        gradient_clip=5.0,
        gradient_skip=gradient_skip,
        precision="float32",
        dataset_size=120,
    )
    images, noise = make_dataset(120, 10).train_images[:20], torch.randn(1, 20, 3)
    with NothingAsked():
        step(images, noise)
        with pytest.raises(AssertionError):
            float(noise[0, 0, 0])


def test_the_cpu_captures_nothing_and_a_variable_switches_it_off(monkeypatch, caplog):
    caplog.set_level("INFO")
    assert not training.captures(CPU)
    assert training.captures(torch.device("cuda"))
    monkeypatch.setenv("BVAE_UNCAPTURED", "1")
    assert not training.captures(torch.device("cuda"))
    assert "BVAE_UNCAPTURED is set" in caplog.text


def test_memory_that_runs_out_during_the_capture_is_told_as_such(monkeypatch):
    """The end of a capture fails as well then, with another error in front."""

    class Stream:
        def __init__(self, device=None):
            self.device = device

        def wait_stream(self, other):
            pass

    used = []

    @contextlib.contextmanager
    def graph(_, stream):
        used.append(stream)
        try:
            yield
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")

    stand_ins = {"Stream": Stream, "current_stream": Stream, "CUDAGraph": object, "graph": graph}
    for name, value in stand_ins.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    current = []
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext(current.append(device)))
    captures, second = [], torch.device("cuda:1")

    def run():
        if captures == ["too large"]:
            raise torch.OutOfMemoryError("Tried to allocate 2 GiB")
        return torch.zeros(4)

    with pytest.raises(torch.OutOfMemoryError, match="2 GiB"):
        training.as_graph(run, second, before_capture=lambda: captures.append("too large"))
    captures.clear()
    with pytest.raises(RuntimeError, match="previous error"):
        training.as_graph(run, second, before_capture=lambda: captures.append("of another kind"))
    # on a stream of another card than the model's, a graph would be empty
    assert current == [second, second] and [stream.device for stream in used] == [second, second]


# --- compiled --------------------------------------------------------------------------------------------------------


def test_the_loss_of_a_compiled_run_is_compiled_and_no_other(fake, tmp_path, monkeypatch):
    compiled: list = []

    def compiler(function, options):
        assert options == {"deterministic": True}  # by rules, not by timings
        compiled.append(function)
        return function

    monkeypatch.setattr(torch, "compile", compiler)
    train_into(make_run(epochs=1), fake, tmp_path / "plain")
    assert compiled == []
    train_into(make_run(epochs=1, compile=True), fake, tmp_path / "compiled")
    assert compiled == [OBJECTIVES["elbo"]]


@pytest.mark.slow
def test_a_compiled_run_is_nearly_the_plain_one(fake, tmp_path):
    train_into(make_run(epochs=2), fake, tmp_path / "plain")
    train_into(make_run(epochs=2, compile=True), fake, tmp_path / "compiled")
    plain, compiled = (load_run(tmp_path / name)[0].state_dict() for name in ("plain", "compiled"))
    for name, tensor in plain.items():
        torch.testing.assert_close(compiled[name], tensor, rtol=1e-3, atol=1e-5)


def test_training_on_a_gpu_lets_float32_be_float32(monkeypatch):
    """It switches off what TORCH_ALLOW_TF32_CUBLAS_OVERRIDE of some containers has switched on."""
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.allow_tf32, convolutions.allow_tf32, convolutions.deterministic
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    try:
        products.allow_tf32 = convolutions.allow_tf32 = True
        convolutions.deterministic = False
        processors.pick_device("cuda")
        assert (products.allow_tf32, convolutions.allow_tf32, convolutions.deterministic) == (False, False, True)
    finally:
        products.allow_tf32, convolutions.allow_tf32, convolutions.deterministic = before


def test_training_does_not_import_the_compiler(tmp_path):
    """It takes some two seconds, as long as a short run; also where a state is saved and read again."""
    script = (
        "import sys, torch; from pathlib import Path; from bvae import BVAE, Bernoulli, plan, train;"
        "model = BVAE(plan({'architecture': 'mlp', 'hidden': [4]}, channels=1, size=8, latent_dim=2), Bernoulli());"
        "settings = dict(identity=('x', 0), batch_size=4, learning_rate=0.01, resume_interval=0, gradient_skip=1e9);"
        "[train(model, torch.zeros(8, 1, 8, 8, dtype=torch.uint8), epochs=2, resume_path=Path(sys.argv[1]), **settings)"
        " for _ in range(2)]; print('torch._dynamo' in sys.modules, Path(sys.argv[1]).exists())"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "resume.pt"], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "True"], done.stderr
