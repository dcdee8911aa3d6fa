"""The evaluation of a whole run: its row agrees with the definitions, and arms are shown the same draws."""

import hashlib
import inspect
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bvae.data import to_batch
from bvae.data.dataset import make
from bvae.errors import InputError
from bvae.evaluation import draws, measures, protocol, trained
from bvae.evaluation.controls import evaluate_controls, evaluate_pca, evaluate_untrained
from bvae.evaluation.draws import (
    fixed_draw,
    interpolation_pairs,
    lerp,
    mixture_samples,
    path_shares,
    prior_samples,
    slerp,
)
from bvae.evaluation.evaluate import evaluate_run, validate_run
from bvae.evaluation.measures import gaussian_statistics, latent_trustworthiness, neighbour_accuracy
from bvae.evaluation.metrics import TASKS
from bvae.evaluation.references import make_reference
from bvae.evaluation.trained import Trained, posterior_means
from bvae.objective import log_importance_weights
from bvae.runs import Run, build_model, load_run, save_model, train_run
from bvae.system.files import write_json
from bvae.system.seeds import derive_seed
from helpers.small import SETTINGS, SHORT_SWEEP, float64s, make_dataset

CPU = torch.device("cpu")
LONGER = SETTINGS | {"training": {"epochs": 60, "batch_size": 20, "learning_rate": 2e-2}}


# --- two arms, side by side ------------------------------------------------------------------------------------------


def test_a_single_image_has_no_pair():
    assert interpolation_pairs("fake", 1, 100).shape == (2, 0)


@pytest.mark.parametrize("images", [2, 3, 100])
def test_interpolation_pairs_are_of_different_images(images):
    first, second = interpolation_pairs("fake", images, 5_000)
    assert not bool((first == second).any())
    assert set(first.tolist()) == set(second.tolist()) == set(range(images))
    assert torch.equal(torch.stack([first, second]), interpolation_pairs("fake", images, 5_000))
    assert not torch.equal(first, interpolation_pairs("other", images, 5_000)[0])


def test_what_every_arm_is_shown_knows_no_arm():
    assert list(inspect.signature(interpolation_pairs).parameters) == ["dataset", "images", "pairs"]
    assert list(inspect.signature(prior_samples).parameters) == ["dataset", "seed", "samples", "latent_dim"]


def test_prior_samples_are_standard_normal_and_differ_by_seed():
    z = prior_samples("fake", 0, 50_000, 4).double()
    assert float(z.mean(0).abs().max()) < 5 / math.sqrt(50_000)
    torch.testing.assert_close(torch.cov(z.T), torch.eye(4, dtype=torch.float64), rtol=0, atol=0.03)
    assert not torch.equal(prior_samples("fake", 0, 5, 4), prior_samples("fake", 1, 5, 4))


@pytest.fixture(scope="module")
def runs(fake, tmp_path_factory):
    """Folders of two tiny trained runs, by arm."""
    folders = {arm: tmp_path_factory.mktemp("runs") / arm for arm in ("bvae", "vae")}
    for arm, folder in folders.items():
        assert train_run(Run("r", SETTINGS, fake.name, arm, 4, 0), fake, folder, device="cpu") == "finished"
    return folders


def evaluated(folder: Path, dataset, references) -> dict:
    return evaluate_run(folder, dataset, references, importance=SHORT_SWEEP, device=CPU).row


def test_distance_of_the_real_images_is_zero(monkeypatch, fake, reference, runs):
    monkeypatch.setattr(trained, "decode_images", lambda model, z, device: fake.test_images)
    row = evaluated(runs["bvae"], fake, [reference])
    scale = np.trace(gaussian_statistics(reference.features.values)[1])
    for what in ("samples", "mixture_samples", "reconstructions", "interpolations", "slerp_interpolations"):
        assert abs(row[f"fd_classifier_{what}"]) < 1e-6 * scale
        assert (row[f"precision_classifier_{what}"], row[f"recall_classifier_{what}"]) == (1, 1)
    assert row["fd_classifier_images"] == 100
    assert {name: row[f"{name}_classifier_floor"] for name in reference.floor} == reference.floor


def test_precision_is_of_the_generated_images(monkeypatch, fake, reference, runs):
    """One test image shown a hundred times: each is near a real image, and they are near one real image only."""
    one = fake.test_images[:1].expand(100, -1, -1, -1)
    monkeypatch.setattr(trained, "decode_images", lambda model, z, device: one)
    row = evaluated(runs["bvae"], fake, [reference])
    for what in ("samples", "mixture_samples", "reconstructions", "interpolations", "slerp_interpolations"):
        assert row[f"precision_classifier_{what}"] == 1
        assert row[f"recall_classifier_{what}"] <= 0.01


def test_arms_decode_the_same_prior_samples_and_pairs(monkeypatch, fake, reference, runs):
    decoded, decode = [], trained.decode_images

    def spy(model, z, device):
        decoded.append(z)
        return decode(model, z, device)

    monkeypatch.setattr(trained, "decode_images", spy)
    for folder in runs.values():
        evaluated(folder, fake, [reference])
    (samples, _, means, *_), (other_samples, _, other_means, *_) = decoded[:5], decoded[5:]
    assert torch.equal(samples, other_samples)
    assert torch.equal(samples, prior_samples("fake", 0, 100, 4))
    first, second = interpolation_pairs("fake", 100, 100)
    for _, _, shown, midpoints, arcs in (decoded[:5], decoded[5:]):
        one, two = shown[first], shown[second]
        torch.testing.assert_close(midpoints, 0.5 * (one + two))
        lengths = (one.norm(dim=1, keepdim=True), two.norm(dim=1, keepdim=True))
        bisector = torch.nn.functional.normalize(one / lengths[0] + two / lengths[1])
        torch.testing.assert_close(arcs, bisector * (lengths[0] + lengths[1]) / 2, rtol=1e-3, atol=1e-4)
    assert not torch.equal(means, other_means)


def test_a_row_agrees_with_its_definitions(fake, reference, runs):
    from bvae.data import to_batch
    from bvae.objective import elbo_loss
    from bvae.runs import load_run

    row = evaluated(runs["vae"], fake, [reference])
    model, _ = load_run(runs["vae"])
    images = to_batch(fake.test_images)
    with torch.no_grad():
        mean, log_variance = model.encode(images)
        shown = model.decode_mean(mean)
        draws = [elbo_loss(model, images, torch.randn_like(mean)[None])[1].elbo.mean().item() for _ in range(50)]
    assert row["kl"] == pytest.approx(
        (0.5 * (mean**2 + log_variance.exp() - 1 - log_variance)).sum(1).mean().item(), 1e-5
    )
    errors = (images - shown).square().mean((1, 2, 3))
    assert row["mse_per_pixel"] == pytest.approx(errors.mean().item(), rel=1e-5)
    assert row["psnr"] == pytest.approx((-10 * errors.log10()).mean().item(), rel=1e-5)
    assert row["elbo"] == pytest.approx(-row["reconstruction"] - row["kl"], rel=1e-6)
    assert abs(row["elbo"] - np.mean(draws)) < 6 * max(np.std(draws), 1e-3)
    assert row["elbo"] == evaluated(runs["vae"], fake, [reference])["elbo"]  # the noise derives from the identity
    weights = 64 * 16 + 16 * 4
    assert row["parameters_weights"] == 2 * weights
    assert row["parameters"] == 2 * weights + (16 * 4 + 4) + (16 + 4) + (16 + 64)
    assert row["model_mb"] == pytest.approx(4 * row["parameters"] / 2**20)
    assert row["active_units"] == int((mean.var(0) > 0.01).sum())
    identity = {"recipe": "r", "dataset": "fake", "arm": "vae", "latent_dim": 4, "seed": 0, "status": "finished"}
    assert {key: row[key] for key in identity} == identity


def test_an_empty_distance_is_none_and_says_why(fake, runs):
    empty = make_reference(fake, "inception", CPU)
    row = evaluated(runs["bvae"], fake, [empty])
    assert row["fid_samples"] is None
    assert row["empty"]["fid_samples"] == "images of 8 pixels; fid needs 28"
    unlabelled = make_reference(replace(fake, train_labels=None, test_labels=None), "classifier", CPU)
    row = evaluated(runs["bvae"], fake, [empty, unlabelled])  # one reason does not hide the other
    assert (row["fid_samples"], row["fd_classifier_samples"]) == (None, None)
    assert set(row["empty"]) == {"fid_samples", "fd_classifier_samples", "ssim"}
    assert row["empty"]["fd_classifier_samples"].startswith("no labels")
    measured = ("fid_recon", "fid_inter", "kid", "precision_", "recall", "fd_classifier_recon", "fd_classifier_inter")
    assert not [name for name in row if name.startswith(measured)]


def test_without_labels_what_needs_them_is_empty_and_says_so(tmp_path):
    unlabelled = make_dataset(120, 100, labels=False)
    run = Run("r", SETTINGS, unlabelled.name, "bvae", 4, 0)
    assert train_run(run, unlabelled, tmp_path / "run", device="cpu") == "finished"
    row = evaluated(tmp_path / "run", unlabelled, [])
    assert (row["probe_accuracy"], row["knn_accuracy"]) == (None, None)
    assert row["empty"]["probe_accuracy"] == "no labels"
    assert math.isfinite(row["elbo"]) and math.isfinite(row["trustworthiness"])
    controls = evaluate_controls(unlabelled)
    assert (controls["probe_accuracy_raw_pixels"], controls["majority_accuracy"]) == (None, None)
    assert controls["mean_image_mse_per_pixel"] > 0


def test_a_reference_or_a_model_of_other_data_is_refused(fake, reference, runs):
    with pytest.raises(InputError, match="reference of classifier.*other data"):
        evaluated(runs["bvae"], fake, [replace(reference, dataset_sha256="f" * 64)])
    empty = make_reference(make_dataset(60, 40), "inception", CPU)  # of other data, and its distance means nothing
    with pytest.raises(InputError, match="reference of inception.*other data"):
        evaluated(runs["bvae"], fake, [empty])
    with pytest.raises(InputError, match="trained on data"):
        evaluated(runs["bvae"], make_dataset(60, 40), [])


def test_controls_of_separable_images(fake):
    row = evaluate_controls(fake)
    assert row["probe_accuracy_raw_pixels"] == 1.0  # patterns well apart
    mean = fake.train_images.double().div(255).mean(0).clamp(1e-6, 1 - 1e-6)
    test = fake.test_images.double() / 255
    wanted = torch.distributions.Bernoulli(mean, validate_args=False).log_prob(test).sum((1, 2, 3)).mean().item()
    assert row["mean_image_log_likelihood_bernoulli"] == pytest.approx(wanted, rel=1e-6)
    frequent = fake.train_labels.mode().values
    assert row["majority_accuracy"] == float((fake.test_labels == frequent).double().mean())


def test_controls_on_large_images_see_a_fixed_draw_of_them(fake, monkeypatch):
    whole = evaluate_controls(fake)
    monkeypatch.setattr(protocol, "CONTROL_IMAGES", 80)
    assert evaluate_controls(fake) == whole  # 64 values an image are few
    monkeypatch.setattr(protocol, "CONTROL_VALUES", 63)
    row = evaluate_controls(fake)
    assert (whole["train_images"], row["train_images"]) == (120, 80)
    assert row == evaluate_controls(fake)
    assert row["mean_image_mse_per_pixel"] == pytest.approx(whole["mean_image_mse_per_pixel"], rel=0.05)
    assert row["mean_image_mse_per_pixel"] != whole["mean_image_mse_per_pixel"]
    assert row["probe_accuracy_raw_pixels"] == 1.0  # images and labels stay together
    assert evaluate_pca(fake, 5)["train_images"] == 80
    monkeypatch.setattr(protocol, "CONTROL_STRENGTHS", (3.0,))
    assert evaluate_controls(fake)["probe_c_raw_pixels"] == 3.0  # strengths of their own


def test_pca_is_that_of_the_singular_value_decomposition(fake):
    row = evaluate_pca(fake, 5)
    train, test = (images.flatten(1).double() / 255 for images in (fake.train_images, fake.test_images))
    axes = torch.linalg.svd(train - train.mean(0), full_matrices=False).Vh[:5]
    latents = (test - train.mean(0)) @ axes.T
    decoded = (latents @ axes + train.mean(0)).clamp(0, 1)
    assert row["mse_per_pixel"] == pytest.approx(float((decoded - test).square().mean()), rel=1e-5)
    assert (row["components"], row["knn_accuracy"]) == (5, 1.0)  # patterns well apart
    assert evaluate_pca(fake, 500)["components"] == 64  # no more than pixels
    assert evaluate_pca(cut(fake, 9, 100), 10)["components"] == 8  # or than directions in which training images differ


# --- a whole evaluation ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(fake, tmp_path_factory):
    """A small trained run."""
    path = tmp_path_factory.mktemp("run")
    assert train_run(Run("r", LONGER, "fake", "bvae", 4, 0), fake, path, device="cpu") == "finished"
    return path


@pytest.fixture
def row(folder, fake):
    return evaluate_run(folder, fake, [], importance=SHORT_SWEEP, device=CPU).row


def terms_of(folder, fake, seed: int = 0) -> dict:
    """The reconstruction part of an evaluation, as if the run had had this seed."""
    model, record = load_run(folder)
    run = Run(**(record["run"] | {"seed": seed}))
    return TASKS["reconstruction"].compute(Trained(model, run, fake, CPU))


def test_the_terms_of_the_elbo_add_up(row, folder, fake):
    assert row["elbo"] == pytest.approx(-row["reconstruction"] - row["kl"], rel=1e-9)
    assert len(row["kl_per_latent"]) == len(row["variance_per_latent"]) == 4
    assert sum(row["kl_per_latent"]) == pytest.approx(row["kl"], rel=1e-6)  # summed in float32, over latents or images
    assert row["kl_bits_per_pixel"] == pytest.approx(row["kl"] / math.log(2) / 64, rel=1e-12)
    model, _ = load_run(folder)
    with torch.no_grad():
        mean, log_variance = model.encode(to_batch(fake.test_images))
    wanted = (0.5 * (mean**2 + log_variance.exp() - 1 - log_variance)).double().mean(0)
    assert row["kl_per_latent"] == pytest.approx(wanted.tolist(), rel=1e-5, abs=1e-7)
    assert row["variance_per_latent"] == pytest.approx(mean.double().var(0).tolist(), rel=1e-6)
    assert row["active_units"] == sum(variance > 0.01 for variance in row["variance_per_latent"])


def test_the_errors_of_the_elbo_are_its_spread(row, folder, fake):
    """`noise` over evaluations of the same images by other draws of z; `image` over the images, their noise with it."""
    again = [terms_of(folder, fake, seed) for seed in range(200)]
    assert again[0]["elbo"] == row["elbo"] and again[1]["elbo"] != row["elbo"]
    assert len({terms["kl"] for terms in again}) == 1  # in closed form: no draw changes it
    spread = float(np.std([terms["elbo"] for terms in again], ddof=1))
    assert spread / 1.5 < row["elbo_noise_error"] < 1.5 * spread
    claimed = math.sqrt(np.mean([terms["elbo_noise_error"] ** 2 for terms in again]))
    assert claimed == pytest.approx(spread, rel=0.2)  # 200 draws give a spread to within 5 %
    model, _ = load_run(folder)
    images = to_batch(fake.test_images)
    with torch.no_grad():
        _, terms = log_importance_weights(model, images, float64s(200, 100, 4, seed=0).float())
    over_images = float(terms.elbo.double().std()) / 10  # by 200 samples of z: without their noise
    assert row["elbo_image_error"] == pytest.approx(math.hypot(over_images, spread), rel=0.2)


def test_the_sweep_starts_at_the_elbo(folder, fake):
    sweep = {"samples": [100, 10, 1], "images": 100}
    row = evaluate_run(folder, fake, [], importance=sweep, device=CPU).row
    assert (row["nll_images"], row["nll_samples"]) == (100, 100)  # all images: the same as the ELBO's
    assert row["nll"] == row["nll_k100"]
    assert row["nll_k1"] == pytest.approx(-row["elbo"], abs=8 * row["elbo_noise_error"])
    assert 1 <= row["effective_sample_size_low"] <= row["effective_sample_size_median"] <= 100


def test_the_sweep_is_of_a_fixed_draw_of_images(folder, fake):
    """30 of the 100 images: the same as by the objective's own weights, with the noise drawn in the same order."""
    sweep = {"samples": [1, 40], "images": 30}
    row = evaluate_run(folder, fake, [], importance=sweep, device=CPU).row
    images, index = fixed_draw(fake, "nll images", 30)
    assert row["nll_images_sha256"] == hashlib.sha256(index.numpy().tobytes()).hexdigest()
    model, _ = load_run(folder)
    generator = torch.Generator().manual_seed(derive_seed("fake", 0, "importance noise"))
    columns = []
    with torch.no_grad():
        for batch in images.split(20):
            draws = [torch.randn(count, len(batch), 4, generator=generator) for count in (25, 15)]
            columns.append(log_importance_weights(model, to_batch(batch), torch.cat(draws))[0].double())
    log_weights = torch.cat(columns, 1)
    assert row["nll"] == pytest.approx(float(math.log(40) - log_weights.logsumexp(0).mean()), rel=1e-6)
    assert row["nll_k1"] == pytest.approx(-float(log_weights[0].mean()), rel=1e-6)


@pytest.mark.parametrize("latent_dim", [3, 4])
def test_the_draws_of_the_sweep_do_not_depend_on_how_many_are_decoded_at_once(fake, monkeypatch, latent_dim):
    """Blocks of 25 samples of 20 images, the last ones smaller, of sizes that torch fills otherwise than in one go."""
    run = Run("r", SETTINGS, "fake", "vae", latent_dim, 0)
    model = build_model(run, channels=1, size=8)[0].eval()
    settings = {"importance": {"samples": [1, 60], "images": 50}}
    generator = torch.Generator().manual_seed(derive_seed("fake", 0, "importance noise"))
    blocks = [[torch.randn(k, n, latent_dim, generator=generator) for k in (25, 25, 10)] for n in (20, 20, 10)]
    drawn = torch.cat([torch.cat(samples) for samples in blocks], 1)  # (60, 50, latent_dim)
    with torch.no_grad():
        wanted = log_importance_weights(model, to_batch(fixed_draw(fake, "nll images", 50)[0]), drawn)[0].double()
    found, calls, weigh = {}, [], trained.log_importance_weights

    def spy(model, images, noise):
        calls.append(noise)
        return weigh(model, images, noise)

    monkeypatch.setattr(trained, "log_importance_weights", spy)
    for at_once in (7, 25, 1_000):
        monkeypatch.setattr(trained, "samples_at_once", lambda device, size, count=at_once: count)
        calls.clear()
        found[at_once] = Trained(model, run, fake, CPU, settings).log_weights
        assert len(calls) == 3 * math.ceil(60 / at_once)
        seen = [torch.cat(calls[i : i + len(calls) // 3]) for i in range(0, len(calls), len(calls) // 3)]
        assert torch.equal(torch.cat(seen, 1), drawn)
        torch.testing.assert_close(found[at_once], wanted, rtol=1e-5, atol=1e-4)


def test_a_gpu_decodes_so_many_pixels_at_once():
    gpu = torch.device("cuda")
    assert [trained.samples_at_once(CPU, size) for size in (8, 28, 64)] == [25, 25, 25]  # as in published studies
    for size in (8, 28, 64):
        pixels = 20 * size**2 * trained.samples_at_once(gpu, size)
        assert 2**22 - 20 * size**2 < pixels <= 2**22
    assert trained.samples_at_once(gpu, 1_000) == 1  # 20 images of a million pixels


def close(row: dict, other: dict, *, rel: float) -> None:
    """The numbers of two evaluations agree, to a relative or absolute `rel`."""
    assert row.keys() == other.keys()
    for name in row:
        if isinstance(row[name], float):
            assert row[name] == pytest.approx(other[name], rel=rel, abs=rel), name


def test_a_run_has_the_same_metrics_by_the_functions_of_a_gpu(fake, reference, runs, monkeypatch):
    wanted = evaluated(runs["vae"], fake, [reference])
    monkeypatch.setattr(measures, "by_torch", lambda features: True)
    monkeypatch.setattr(trained, "samples_at_once", lambda device, size: 1_000)
    found = evaluated(runs["vae"], fake, [reference])
    close(found, wanted, rel=1e-5)
    assert found["knn_accuracy"] == wanted["knn_accuracy"] and found["probe_accuracy"] == wanted["probe_accuracy"]
    assert found["precision_classifier_samples"] == wanted["precision_classifier_samples"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_run_has_the_same_metrics_on_a_gpu(fake, reference, runs):
    """To a hundredth, and shares of 100 images to 0.05: the network's float32 is rounded otherwise there.

    The samples of a mixture and the strength of a probe may be others.
    """
    wanted = evaluated(runs["vae"], fake, [reference])
    cuda = torch.device("cuda")
    found = evaluate_run(runs["vae"], fake, [reference], importance=SHORT_SWEEP, device=cuda).row
    free = {name for name in wanted if name.endswith(("mixture_samples", "probe_c"))}
    shares = {
        name for name in wanted if name.startswith(("precision_", "recall_")) or name.endswith("_accuracy")
    } - free
    kept = wanted.keys() - free - shares
    close({name: found[name] for name in kept}, {name: wanted[name] for name in kept}, rel=1e-2)
    assert all(abs(found[name] - wanted[name]) <= 0.05 for name in shares)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_reference_made_on_a_gpu_is_kept_on_the_cpu(fake, monkeypatch):
    monkeypatch.setattr(protocol, "CLASSIFIER_STEPS", 20)
    made = make_reference(fake, "classifier", torch.device("cuda"))
    assert {tensor.device.type for tensor in made.features} == {"cpu"}
    assert made.floor.keys() == {"fd", "precision", "recall"}


def test_fixed_draws_are_of_the_data_set_alone(fake):
    images, index = fixed_draw(fake, "some purpose", 30)
    assert torch.equal(images, fake.test_images[index]) and len(set(index.tolist())) == 30
    assert torch.equal(index, fixed_draw(fake, "some purpose", 30)[1])
    assert torch.equal(index, fixed_draw(fake, "some purpose", 60)[1][:30])
    assert not torch.equal(index, fixed_draw(fake, "another", 30)[1])
    assert sorted(fixed_draw(fake, "some purpose", 1_000)[1].tolist()) == list(range(100))


def test_neighbours_and_trust_of_a_run_are_those_of_its_latents(row, folder, fake):
    model, _ = load_run(folder)
    train, test = (posterior_means(model, images, CPU) for images in (fake.train_images, fake.test_images))
    pixels = fake.test_images.flatten(1).double().numpy()
    assert row["trustworthiness"] == pytest.approx(latent_trustworthiness(pixels, test.double().numpy()), abs=1e-3)
    wanted = neighbour_accuracy(train.double(), fake.train_labels.numpy(), test.double(), fake.test_labels.numpy())
    assert row["knn_accuracy"] == pytest.approx(wanted, abs=0.011)  # one image, for a tie
    assert row["trustworthiness"] > 0.6


def test_images_without_ssim_say_so(row):
    assert row["ssim"] is None
    assert row["empty"]["ssim"] == "images of 8 pixels; its window needs 11"


def test_images_along_the_path_are_at_their_shares_of_the_way(folder, fake, reference, monkeypatch):
    model, record = load_run(folder)
    run = Trained(model, Run(**record["run"]), fake, CPU, references=[reference])
    decoded, decode = [], trained.decode_images
    monkeypatch.setattr(
        trained, "decode_images", lambda model, z, device: decoded.append(z) or decode(model, z, device)
    )
    row = TASKS["paths"].compute(run)
    first, second = (run.test_means[index] for index in interpolation_pairs("fake", 100, 100))
    shares = path_shares("fake", 100)
    assert torch.equal(decoded[0], lerp(first, second, shares)) and torch.equal(
        decoded[1], slerp(first, second, shares)
    )
    names = ("fd_classifier_path_interpolations", "fd_classifier_slerp_path_interpolations")
    assert row == {name: row[name] for name in names} | {"empty": {}} and row[names[0]] != row[names[1]]
    monkeypatch.setattr(draws, "path_shares", lambda dataset, pairs: torch.zeros(pairs, 1))
    TASKS["paths"].compute(run)
    assert torch.equal(decoded[2], first)
    torch.testing.assert_close(decoded[3], first)
    monkeypatch.setattr(draws, "path_shares", lambda dataset, pairs: torch.full((pairs, 1), 0.5))
    middle, whole = TASKS["paths"].compute(run), TASKS["distances"].compute(run)
    for what in ("interpolations", "slerp_interpolations"):
        name = f"fd_classifier_{what.replace('inter', 'path_inter')}"
        assert middle[name] == pytest.approx(whole[f"fd_classifier_{what}"], rel=1e-6)


def test_shares_of_the_way_are_even_and_known_to_no_arm():
    shares = path_shares("fake", 20_000)
    assert shares.shape == (20_000, 1) and 0 <= float(shares.min()) < float(shares.max()) <= 1
    assert float(shares.mean()) == pytest.approx(0.5, abs=5 / math.sqrt(12 * 20_000))
    assert float(shares.var()) == pytest.approx(1 / 12, rel=0.05)
    assert torch.equal(shares, path_shares("fake", 20_000)) and not torch.equal(shares, path_shares("other", 20_000))
    assert list(inspect.signature(path_shares).parameters) == ["dataset", "pairs"]


def test_the_way_of_a_linear_decoder_has_the_mean_of_the_middle_and_two_thirds_of_the_covariance():
    """Ends that are independent, of covariance S: E[(1 - t)² + t²] is 2/3 for an even t, and 1/2 in the middle."""
    first, second = (1.0 + float64s(40_000, 2, seed=seed) * torch.tensor([1.0, 2.0]) for seed in (0, 1))
    weights = float64s(2, 3, seed=2)
    whole, middle = (lerp(first, second, t) @ weights for t in (path_shares("fake", 40_000), 0.5))
    torch.testing.assert_close(whole.mean(0), middle.mean(0), rtol=0, atol=0.04)
    covariance = weights.T @ torch.diag(torch.tensor([1.0, 4.0], dtype=torch.float64)) @ weights
    torch.testing.assert_close(torch.cov(whole.T), 2 / 3 * covariance, rtol=0.03, atol=0.03)
    torch.testing.assert_close(torch.cov(middle.T), 1 / 2 * covariance, rtol=0.03, atol=0.03)


def test_a_linear_decoder_fades_straight(folder, fake, monkeypatch):
    """The images of a way between two latents are those of an affine decoder: a ratio of 1. A trained one: no less."""
    model, record = load_run(folder)
    run = Trained(model, Run(**record["run"]), fake, CPU)

    def ratio() -> float:
        return TASKS["interpolation"].compute(run)["path_ratio_interpolations"]

    assert ratio() >= 1
    weights = float64s(4, 64, seed=0).float()
    monkeypatch.setattr(model, "decode_mean", lambda z: (z @ weights).view(-1, 1, 8, 8))
    assert ratio() == pytest.approx(1, rel=1e-5)


# --- the second sampler ---------------------------------------------------------------------------------------------


def test_a_mixture_samples_where_the_latents_are():
    centres = torch.tensor([[10.0, 0, 0], [-10, 5, 0]])
    which = torch.arange(1_000) % 4 == 0  # a quarter in the second cluster
    train = torch.where(which[:, None], centres[1], centres[0]) + 0.1 * float64s(1_000, 3, seed=0).float()
    run = Run("r", LONGER, "fake", "vae", 3, 0)
    z = mixture_samples(run, train, 800)
    assert (z.shape, z.dtype) == ((800, 3), torch.float32)
    distances = torch.cdist(z, centres)
    assert float(distances.min(1).values.max()) < 0.1 * 6  # six standard deviations
    share = float((distances.argmin(1) == 1).float().mean())
    assert abs(share - 0.25) < 5 * math.sqrt(0.25 * 0.75 / 800)
    for cluster in (0, 1):
        found = z[distances.argmin(1) == cluster]
        torch.testing.assert_close(found.mean(0), centres[cluster], rtol=0, atol=0.04)
        assert found.std(0).tolist() == pytest.approx([0.1] * 3, rel=0.2)
    assert torch.equal(z, mixture_samples(run, train, 800))
    assert not torch.equal(z, mixture_samples(Run("r", LONGER, "fake", "vae", 3, 1), train, 800))


def test_a_mixture_of_few_latents_still_samples():
    run = Run("r", LONGER, "fake", "vae", 3, 0)
    assert mixture_samples(run, float64s(6, 3, seed=0).float(), 20).isfinite().all()  # fewer than components


def test_a_mixture_of_equal_latents_is_their_point():
    """Of a dead encoder: a mixture of one Gaussian, as wide as scikit-learn's least variance."""
    run = Run("r", LONGER, "fake", "vae", 3, 0)
    z = mixture_samples(run, torch.tensor([[0.3, -2.0, 0.1]]).expand(500, 3), 4_000)
    torch.testing.assert_close(z.mean(0), torch.tensor([0.3, -2.0, 0.1]), rtol=0, atol=5 * 0.01 / 4_000**0.5)
    assert z.std(0).tolist() == pytest.approx([0.01] * 3, rel=0.1)


@pytest.mark.parametrize("weights", [[0.6, 0.4000001, 0.0], [0.3, 0.7000002, 1e-12]])
def test_a_mixture_whose_shares_are_rounded_above_one_still_samples(weights, monkeypatch):
    """NumPy refuses shares of a sum above 1; float32 rounds them so where the last component has next to nothing."""
    from sklearn.mixture import GaussianMixture

    fit = GaussianMixture.fit

    def rounded(self, latents):
        fit(self, latents)
        self.weights_ = np.float32(weights + [0.0] * (len(self.weights_) - 3))
        return self

    monkeypatch.setattr(GaussianMixture, "fit", rounded)
    run = Run("r", LONGER, "fake", "vae", 3, 0)
    assert mixture_samples(run, float64s(300, 3, seed=0).float(), 50).shape == (50, 3)


# --- what a data set or a model does not have ------------------------------------------------------------------------


def cut(dataset, train: int, test: int, label=lambda labels: labels):
    """The first images of a data set, with other labels."""
    splits = {name: tensor[: train if "train" in name else test] for name, tensor in dataset.tensors().items()}
    splits |= {name: label(tensor) for name, tensor in splits.items() if "labels" in name}
    names = tuple(dataset.classes[: int(splits["train_labels"].max()) + 1])
    splits["test_labels"] = splits["test_labels"].clamp(max=len(names) - 1)
    return make(**splits, name="fake", classes=names, source="here", licence="none")


def everything(dataset, folder, *, change=None, **settings) -> dict:
    """All that is computed of a data set and of a model that a moment has trained; `change` then changes the model."""
    run = Run("r", SETTINGS | settings, dataset.name, "bvae", 4, 0)
    assert train_run(run, dataset, folder, device="cpu") == "finished"
    if change is not None:
        model, record = load_run(folder)
        with torch.no_grad():
            change(model)
        save_model(model, folder / "model.safetensors", record)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocol, "CLASSIFIER_STEPS", 20)
        references = [make_reference(dataset, name, CPU) for name in ("classifier", "inception")]
    row = evaluate_run(folder, dataset, references, importance=SHORT_SWEEP, device=CPU, protocol=2).row
    for found in (row, evaluate_controls(dataset), evaluate_pca(dataset, 4), evaluate_untrained(run, dataset, CPU)):
        write_json(folder / "found.json", found)  # refuses numbers that are not finite
    return row


def no_numbers(row: dict) -> set[str]:
    """The metrics of protocol 1 that a row of its own should have and has not; each has a reason, as others have."""
    tasks = {m.name: task for task in TASKS.values() for m in task.metrics if not m.optional and not m.any_features}
    found = {name for name in tasks if row[name] is None}
    assert found <= row["empty"].keys()
    return {name for name in found if tasks[name].protocol == 1} - {"ssim"}  # images of 8 pixels have none


CLASSIFIED = {"probe_accuracy", "knn_accuracy"}


@pytest.mark.parametrize("test", [1, 2, 3, 4])
@pytest.mark.parametrize("train", [1, 2, 5, 6, 7])
def test_very_few_images_leave_what_they_cannot_give_empty(fake, tmp_path, train, test):
    row = everything(cut(fake, train, test), tmp_path)
    wanted = {"active_units", "path_ratio_interpolations"} if test == 1 else set()
    wanted |= {"trustworthiness"} if test < 3 else set()
    wanted |= {"probe_accuracy"} if train < 6 else set()
    wanted |= {"knn_accuracy"} if train == 1 else set()  # of one image all labels are the same
    assert no_numbers(row) == wanted
    assert (row["elbo_image_error"] is None) == (test == 1)
    assert math.isfinite(row["elbo"]) and math.isfinite(row["nll"])


def test_one_class_is_no_task_for_a_classifier(fake, tmp_path):
    row = everything(cut(fake, 90, 100, label=torch.zeros_like), tmp_path)
    assert no_numbers(row) == CLASSIFIED
    assert row["empty"]["fd_classifier_samples"].startswith("all training images have the same label")
    controls = evaluate_controls(cut(fake, 90, 100, label=torch.zeros_like))
    assert (controls["probe_accuracy_raw_pixels"], controls["majority_accuracy"]) == (None, None)


def test_attributes_that_no_image_differs_in_are_no_task(fake, tmp_path):
    splits = {name: tensor for name, tensor in fake.tensors().items() if "images" in name}
    attributes = {f"{split}_attributes": torch.ones(n, 2).byte() for split, n in (("train", 120), ("test", 100))}
    row = everything(
        make(**splits, **attributes, name="fake", attribute_names=("a", "b"), source="here", licence="none"), tmp_path
    )
    assert no_numbers(row) == CLASSIFIED


@pytest.mark.parametrize("place", range(0, 12, 3))
def test_a_class_of_one_training_image_is_classified(fake, tmp_path, place):
    """Wherever it is: held out, so that the search for C sees one class, or not."""

    def rare(labels: torch.Tensor) -> torch.Tensor:
        return (torch.arange(len(labels)) == place).long()

    row = everything(cut(fake, 12, 90, label=rare), tmp_path)
    assert no_numbers(row) == set()
    assert 0 <= row["probe_accuracy"] <= 1
    assert "fd_classifier_floor" not in row  # 12 training images are fewer than the test images


def test_a_floor_is_of_as_many_training_images(fake, monkeypatch):
    monkeypatch.setattr(protocol, "CLASSIFIER_STEPS", 20)
    assert make_reference(cut(fake, 100, 100), "classifier", CPU).floor.keys() >= {"fd", "precision", "recall"}
    assert make_reference(cut(fake, 99, 100), "classifier", CPU).floor == {}


def dead(model) -> None:
    """An encoder whose answer is its biases, whatever it sees, as one of ReLUs may become."""
    for weight in model.encoder_weights[:-1]:
        weight.weight.zero_()
    model.encoder.mean_bias.copy_(torch.tensor([0.37, -1.2, 0.001, 5.0]))


def test_a_dead_encoder_has_all_metrics_but_ratios_of_nothing(fake, tmp_path):
    row = everything(fake, tmp_path, change=dead)
    assert no_numbers(row) == {"path_ratio_interpolations"}
    assert row["active_units"] == 0
    assert row["fd_classifier_mixture_samples"] > 0
    assert row["fd_classifier_interpolations"] == row["fd_classifier_reconstructions"]
    assert row["fd_classifier_path_interpolations"] == row["fd_classifier_reconstructions"]


def not_a_number(model) -> None:
    model.encoder.log_variance.bias[1] = math.nan


def overflowing(model) -> None:
    """The posterior mean of a pixel of 1 is beyond float32."""
    model.encoder_weights[0].weight.fill_(1e38)


@pytest.mark.parametrize("change", [not_a_number, overflowing])
def test_a_model_without_finite_posteriors_is_empty_and_costs_no_other_run(fake, tmp_path, change):
    row = everything(fake, tmp_path, change=change)
    no_numbers(row)
    sizes = {metric.name for metric in TASKS["size"].metrics}
    wanted = {m.name for task in TASKS.values() for m in task.metrics if not m.optional and not m.any_features} - sizes
    assert {name for name in wanted if row[name] is not None} == set()
    assert row["parameters"] > 0
    assert all("not finite" in row["empty"][name] for name in wanted)


def test_a_decoder_without_finite_weights_decodes_nothing_that_is_measured(fake, tmp_path):
    row = everything(fake, tmp_path, change=lambda model: model.decoder.image_bias.fill_(math.nan))
    assert row["elbo"] is None and "fd_classifier_samples" not in row


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_constant_images_are_evaluated(fake, tmp_path, likelihood):
    """Decoded exactly, they have no PSNR; a Gaussian of the mean image has at least the variance of rounding."""
    black = {name: torch.zeros_like(t) if "images" in name else t for name, t in fake.tensors().items()}
    dataset = make(**black, name="fake", classes=fake.classes, source="here", licence="none")

    def exactly_black(model) -> None:
        model.decoder_weights[0].weight.zero_()
        model.decoder.image_bias.fill_(-1e3 if likelihood == "bernoulli" else 0.0)

    row = everything(dataset, tmp_path, change=exactly_black, likelihood={"name": likelihood})
    assert no_numbers(row) == {"psnr", "path_ratio_interpolations"}
    assert row["mse_per_pixel"] == 0 and "100 of 100" in row["empty"]["psnr"]
    pca = evaluate_pca(dataset, 4)
    assert (pca["components"], pca["mse_per_pixel"], pca["probe_accuracy"]) == (0, 0, None)
    variance = 1 / 12 / 255**2
    found = evaluate_controls(dataset)["mean_image_log_likelihood_gaussian"]
    assert found == pytest.approx(-32 * math.log(2 * math.pi * variance), rel=1e-9)


def test_a_tuned_run_without_a_finite_elbo_has_diverged(fake, tmp_path):
    held_out = replace(fake, source="here --validation 100")
    run = Run("r", SETTINGS, "fake", "vae", 4, 0)
    assert train_run(run, held_out, tmp_path, device="cpu") == "finished"
    assert validate_run(tmp_path, held_out, device=CPU)["status"] == "finished"
    model, record = load_run(tmp_path)
    with torch.no_grad():
        not_a_number(model)
    save_model(model, tmp_path / "model.safetensors", record)
    row = validate_run(tmp_path, held_out, device=CPU)
    assert (row["status"], list(row["tasks"]), row.get("elbo")) == ("diverged", ["size"], None)
