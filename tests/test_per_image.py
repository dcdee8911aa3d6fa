"""Values of each image: of models whose likelihood is known, in their file, and kept with the task that gave them."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch import nn

from bvae.data import load
from bvae.errors import InputError
from bvae.evaluation import protocol
from bvae.evaluation.draws import fixed_draw
from bvae.evaluation.evaluate import evaluate_run
from bvae.evaluation.metrics import TASKS
from bvae.evaluation.per_image import read_per_image, write_per_image
from bvae.evaluation.trained import Trained
from bvae.objective import Gaussian
from bvae.report.made_from import Plan, results_of
from bvae.report.outdated import outdated
from bvae.runs import Run, train_run
from bvae.study.runs import find_run, per_image_path, results_paths, run_folders
from bvae.system.files import read_yaml, write_json
from helpers.checkouts import ROOT
from helpers.small import SETTINGS, float64s
from helpers.studies import check

CPU = torch.device("cpu")
SWEEP = {"samples": [1, 50], "images": 60}
SIGMA = 0.3


class LinearGaussian(nn.Module):
    """p(x|z) = N(z W + b, SIGMA²), whose encoder is the true posterior, with its variances times `factor`."""

    def __init__(self, factor: float = 1.0):
        super().__init__()
        self.directions = torch.linalg.qr(float64s(64, 4, seed=0)).Q.T.float() * torch.tensor([[2.0], [1], [0.5], [0]])
        self.bias = torch.full((64,), 0.5)
        self.likelihood, self.log_factor = Gaussian(SIGMA), math.log(factor)

    def encode(self, images):
        lengths = self.directions.square().sum(1)
        mean = (images.flatten(1) - self.bias) @ self.directions.T / (lengths + SIGMA**2)
        return mean, ((SIGMA**2 / (lengths + SIGMA**2)).log() + self.log_factor).expand_as(mean)

    def decode(self, z):
        return (z @ self.directions + self.bias).view(-1, 1, 8, 8)

    def decode_mean(self, z):
        return self.likelihood.mean(self.decode(z))


def of(model, dataset) -> Trained:
    return Trained(model, Run("r", SETTINGS, "fake", "vae", 4, 0), dataset, CPU, {"importance": SWEEP})


def true_likelihood(model, images) -> np.ndarray:
    """ln p(x) of a LinearGaussian in nats, (n,)."""
    covariance = (model.directions.T @ model.directions).double() + SIGMA**2 * torch.eye(64)
    return multivariate_normal(model.bias.double().numpy(), covariance.numpy()).logpdf(images.flatten(1) / 255)


def test_with_the_true_posterior_elbo_and_nll_are_the_likelihood(fake):
    """Every importance weight is then p(x), whatever z is."""
    model = LinearGaussian()
    row = TASKS["same_images"].compute(of(model, fake))
    images, index = fixed_draw(fake, "nll images", 60)
    wanted = true_likelihood(model, images)
    np.testing.assert_allclose(-row["per_image"]["nll"], wanted, atol=2e-3)
    np.testing.assert_allclose(row["per_image"]["elbo_of_nll_images"], wanted, atol=2e-3)
    assert row["elbo_nll_images"] == pytest.approx(wanted.mean(), abs=1e-3)
    assert row["nll_image_error"] == pytest.approx(wanted.std(ddof=1) / math.sqrt(60), rel=1e-3)
    assert torch.equal(row["per_image"]["nll_images"], index)
    assert TASKS["importance"].compute(of(model, fake))["nll"] == pytest.approx(-wanted.mean(), abs=1e-3)


def test_with_a_wider_posterior_the_elbo_is_lower_by_its_divergence(fake):
    """Variances twice too large: KL(q ‖ p(z|x)) = (1 - ln 2) / 2 for each of 4 latents, and NLL lies between."""
    model = LinearGaussian(factor=2.0)
    row = TASKS["same_images"].compute(of(model, fake))
    nll, elbo = row["per_image"]["nll"], row["per_image"]["elbo_of_nll_images"]
    assert bool((nll <= -elbo).all())
    wanted = true_likelihood(model, fixed_draw(fake, "nll images", 60)[0])
    gap = 4 * (1 - math.log(2)) / 2
    draws = 60 * 50
    # of each latent the log weight has a variance of 1/2 Var(chi²) = 1/2
    assert row["elbo_nll_images"] == pytest.approx(wanted.mean() - gap, abs=5 * math.sqrt(4 * 0.5 / draws))
    assert wanted.mean() - gap < -float(nll.mean()) < wanted.mean() + 0.05


def test_the_elbo_of_every_test_image_is_that_of_the_table(fake, tmp_path):
    train_run(Run("r", SETTINGS, "fake", "vae", 4, 0), fake, tmp_path, device="cpu")
    row, images = evaluate_run(tmp_path, fake, [], importance=SWEEP, device=CPU, protocol=2)
    assert {name: (tuple(x.shape), x.dtype) for name, x in images.items()} == {
        "elbo": ((100,), torch.float32),
        "mse_per_pixel": ((100,), torch.float32),
        "nll": ((60,), torch.float32),
        "elbo_of_nll_images": ((60,), torch.float32),
        "nll_images": ((60,), torch.int64),
    }
    for name, of_images in (("elbo", "elbo"), ("mse_per_pixel",) * 2, ("nll", "nll")):
        assert row[name] == pytest.approx(float(images[of_images].double().mean()), rel=1e-6)
    assert row["elbo_nll_images"] == pytest.approx(float(images["elbo_of_nll_images"].mean()), rel=1e-6)
    assert row["elbo_image_error"] == pytest.approx(float(images["elbo"].std()) / 10, rel=1e-5)
    # the same images, by 2 draws of z and by 50: they differ by the noise of the draws only
    two, fifty = images["elbo"][images["nll_images"]], images["elbo_of_nll_images"]
    assert np.corrcoef(two, fifty)[0, 1] > 0.3  # of images in another order: 0 ± 0.13
    assert float(two.mean()) == pytest.approx(float(fifty.mean()), abs=10 * row["elbo_noise_error"])
    assert row["tasks"]["reconstruction"]["per_image"] == ["elbo", "mse_per_pixel"]


def test_protocol_1_has_no_values_of_each_image(fake, tmp_path):
    train_run(Run("r", SETTINGS, "fake", "vae", 4, 0), fake, tmp_path, device="cpu")
    row, images = evaluate_run(tmp_path, fake, [], importance=SWEEP, device=CPU)
    assert images == {}
    assert {*row["tasks"]["reconstruction"]} == {"version", "gives", "empty"}
    assert not {"elbo_nll_images", "probe_sampled_accuracy"} & row.keys()


def test_values_of_each_image_are_kept_with_their_task(fake, tmp_path, monkeypatch):
    train_run(Run("r", SETTINGS, "fake", "vae", 4, 0), fake, tmp_path, device="cpu")
    asked = {"importance": SWEEP, "device": CPU, "protocol": 2}
    row, images = evaluate_run(tmp_path, fake, [], **asked)
    marked, marks = row | {"elbo": -1.0, "nll": -1.0, "elbo_nll_images": -1.0}, {n: x + 1 for n, x in images.items()}
    kept, kept_images = evaluate_run(tmp_path, fake, [], **asked, known=marked, known_images=marks)
    assert kept == marked and all(torch.equal(kept_images[name], marks[name]) for name in images)
    for name, task in (("elbo", "reconstruction"), ("nll_images", "same_images")):  # without it, its task is run again
        lost = {key: tensor for key, tensor in marks.items() if key != name}
        again, found = evaluate_run(tmp_path, fake, [], **asked, known=marked, known_images=lost)
        for key, tensor in images.items():
            from_task = key in row["tasks"][task]["per_image"]
            assert torch.equal(found[key], tensor if from_task else marks[key]), (name, key)
        assert (again["elbo"], again["elbo_nll_images"]) == (
            (row["elbo"], -1.0) if task == "reconstruction" else (-1.0, row["elbo_nll_images"])
        )
    monkeypatch.setitem(TASKS, "reconstruction", replace(TASKS["reconstruction"], version=99))
    again, found = evaluate_run(tmp_path, fake, [], **asked, known=marked, known_images=marks)
    assert (again["elbo"], again["nll"]) == (row["elbo"], -1.0)
    assert torch.equal(found["elbo"], images["elbo"]) and torch.equal(found["nll"], marks["nll"])


def test_a_file_says_whose_values_it_has(tmp_path):
    row = {"recipe": "r", "dataset": "fake", "arm": "vae", "latent_dim": 4, "seed": 0}
    row |= {"model_sha256": "1" * 64, "dataset_sha256": "2" * 64, "elbo": -3.0}
    values = {"elbo": torch.tensor([-1.0, -5.0], dtype=torch.float64), "nll_images": torch.tensor([7, 3])}
    path = tmp_path / "per_image-0123abcd.safetensors"
    sha256 = write_per_image(path, values, row)
    found = read_per_image(path)
    assert found.facts == {key: value for key, value in row.items() if key != "elbo"}
    assert found.values["elbo"].dtype == torch.float32 and found.values["elbo"].tolist() == [-1, -5]
    assert found.values["nll_images"].tolist() == [7, 3]
    assert write_per_image(path, values, row) == sha256  # equal values, equal bytes
    assert read_per_image(path).values.keys() == values.keys()
    write_per_image(path, {}, row)  # a run that diverged
    assert read_per_image(path).values == {}
    for break_it in (Path.unlink, lambda path: path.write_bytes(b"x" * 99)):
        break_it(path)
        with pytest.raises(InputError, match="per_image-0123abcd.safetensors"):
            read_per_image(path)


@pytest.fixture
def evaluated(digits, tmp_path, monkeypatch) -> tuple[dict, Path]:
    """A study of protocol 2 of one run whose results are there, and the path of these."""
    from bvae.__main__ import main
    from bvae.data import save

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(protocol, "CLASSIFIER_STEPS", 20)
    config = read_yaml(ROOT / "config/quick.yaml") | {"study": "new"}
    config["blocks"] = [config["blocks"][0] | {"arms": ["vae"], "seeds": [0]}]
    config["recipes"]["mlp-quick"]["training"]["epochs"] = 1
    config["recipes"]["mlp-quick"]["importance"] = {"samples": [1, 3], "images": 2_000}
    del config["claims"]
    study = check(config)
    (tmp_path / "workflow").symlink_to(ROOT / "workflow")
    write_json(tmp_path / "study.json", config)
    save(digits, Path("resources/data/digits.safetensors"))
    for name in study["features"]:
        assert main(["reference", f"digits-{name}"]) == 0
    [run] = run_folders(study)
    assert main(["train", "study.json", run]) == 0
    assert main(["evaluate", "study.json", run]) == 0
    return study, find_run(study, run, results=True).path


def test_results_without_the_values_of_each_image_are_outdated(evaluated):
    """A file that is missing or damaged is made again, with nothing else but what gives it."""
    from bvae.__main__ import main

    study, results = evaluated
    path = Path(per_image_path(str(results)))

    def reason() -> str | None:
        plan = Plan(study)
        return outdated(plan, results_of(plan)).get(str(results))

    def again() -> dict:
        assert main(["evaluate", "study.json", str(results)]) == 0
        return json.loads(results.read_text())

    assert reason() is None and list(results_paths(study).values()) == [str(results)]
    row, content = json.loads(results.read_text()), path.read_bytes()
    facts, data = read_per_image(path).facts, load("resources/data/digits.safetensors")
    assert (facts["model_sha256"], facts["dataset_sha256"]) == (row["model_sha256"], data.sha256)
    results.write_text(json.dumps(row | {"elbo": -1.0, "probe_sampled_accuracy": -1.0}))
    for break_it in (Path.unlink, lambda path: path.write_bytes(content[:-1]), lambda path: path.write_bytes(b"x")):
        break_it(path)
        assert reason() is not None
        found = again()
        assert (found["elbo"], found["probe_sampled_accuracy"]) == (row["elbo"], -1.0)
        assert path.read_bytes() == content and reason() is None
