"""Known changes of images: known answers on pixels and features, and their order over a real classifier."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from bvae.errors import InputError
from bvae.evaluation import protocol
from bvae.evaluation.distortions import (
    add_noise,
    between_halves,
    blur,
    changed_images,
    measure_distortions,
    scale_contrast,
    without_each_class,
)
from bvae.evaluation.metrics._distortions import CHANGES
from bvae.evaluation.references import make_reference, reference_index, reference_test_images
from bvae.report.distances import table_of_distances
from bvae.report.made_from import Plan, files_of, inputs_of, results_of
from bvae.study.runs import distances_path
from bvae.system.files import read_yaml, write_json
from helpers.checkouts import ROOT
from helpers.small import float64s, make_dataset
from helpers.studies import check

CPU = torch.device("cpu")


def flat(value: int, *shape: int) -> torch.Tensor:
    return torch.full(shape, value, dtype=torch.uint8)


@pytest.mark.parametrize("sigma", [0.5, 1.0])
def test_a_blurred_point_is_a_gaussian(sigma):
    image = flat(0, 1, 2, 15, 15)
    image[0, 0, 7, 7] = 255
    found = blur(image, sigma)[0].double()
    profile = np.exp(-0.5 * (np.arange(-7, 8) / sigma) ** 2)
    profile /= profile.sum()
    np.testing.assert_allclose(found[0].numpy(), 255 * np.outer(profile, profile), atol=0.51)
    assert float(found[1].abs().max()) == 0  # channels do not mix


def test_a_blur_leaves_an_image_of_one_colour_as_it_is():
    image = flat(123, 2, 3, 8, 8)
    assert torch.equal(blur(image, 1.0), image)


def test_noise_has_its_strength_and_is_clipped():
    grey, noise = flat(128, 4, 1, 100, 100), float64s(4, 1, 100, 100, seed=0).float()
    found = add_noise(grey, 0.1, noise).double()
    assert float(found.std()) == pytest.approx(25.5, rel=0.02) and float(found.mean()) == pytest.approx(128, abs=1)
    black = add_noise(flat(0, 4, 1, 100, 100), 0.1, noise).double()
    assert float(black.min()) == 0
    assert float(black.mean()) == pytest.approx(25.5 / math.sqrt(2 * math.pi), rel=0.05)  # half of it is cut off
    assert torch.equal(add_noise(grey, 0.0, noise), grey)


def test_less_contrast_leaves_black_black():
    image = torch.tensor([0, 1, 100, 255], dtype=torch.uint8).view(1, 1, 2, 2)
    assert scale_contrast(image, 0.9).flatten().tolist() == [0, 1, 90, 230]


def test_changes_are_those_with_a_record_and_depend_on_the_data_set_alone(fake):
    found = dict(changed_images("fake", fake.test_images))
    assert found.keys() < {change.name for change in CHANGES} and len(found) == 5
    assert all(torch.equal(found[name], images) for name, images in changed_images("fake", fake.test_images))
    other = dict(changed_images("other", fake.test_images))
    assert {name for name in found if not torch.equal(found[name], other[name])} == {"noise_0.05", "noise_0.1"}


def test_halves_three_apart_have_a_distance_of_nine():
    values = float64s(1_000, 2, seed=0)
    shifted = torch.cat([values, values + torch.tensor([3.0, 0.0]), float64s(1, 2, seed=1)])
    assert between_halves(shifted) == pytest.approx(9, rel=1e-9)
    assert between_halves(torch.cat([values, values])) == pytest.approx(0, abs=1e-9)


def test_a_class_that_is_dropped_moves_mean_and_spread():
    """Classes of one point each, at 0 and at 1: what is left has the mean 1 or 0 and no variance, the whole 1/4."""
    labels = torch.arange(2_000) % 2
    features = torch.stack([labels, torch.zeros_like(labels)], 1).double()
    found = without_each_class(features, labels)
    variance = 0.25 * 2_000 / 1_999
    assert found == pytest.approx([0.25 + variance, 0.25 + variance], rel=1e-6)


@pytest.fixture(scope="module")
def on_digits(digits):
    """The reference of digits by a classifier of few steps, and its distances."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocol, "CLASSIFIER_STEPS", 300)
        reference = make_reference(digits, "classifier", CPU)
    return reference, measure_distortions(digits, reference, CPU)


def test_stronger_changes_of_digits_cost_more(on_digits, digits):
    reference, row = on_digits
    found = row["distances"]
    assert found["blur_1.0"] > 1.5 * found["blur_0.5"] > 0
    assert found["noise_0.1"] > 1.5 * found["noise_0.05"] > 0
    assert 0 < found["ends_of_pairs"] < found["class_dropped"]
    assert found["training_images"] == reference.floor["fd"]
    assert {name for name in found if found[name] is None} == set() and row["empty"] == {}
    assert found.keys() == {change.name for change in CHANGES}
    assert (row["images"], row["reference_sha256"], row["dataset_sha256"]) == (360, reference.identity, digits.sha256)
    assert row == measure_distortions(digits, reference, CPU)


def test_distances_that_mean_nothing_say_why(fake, reference):
    with pytest.raises(InputError, match="made from other data"):
        measure_distortions(make_dataset(60, 40), reference, CPU)
    empty = measure_distortions(fake, make_reference(fake, "inception", CPU), CPU)
    assert empty["distances"] == {} and set(empty["empty"].values()) == {"images of 8 pixels; fid needs 28"}
    unlabelled = replace(fake, test_labels=None, train_labels=None)
    row = measure_distortions(unlabelled, replace(reference, floor={}), CPU)
    assert row["empty"].keys() == {"training_images", "class_dropped"}
    assert [row["distances"][name] for name in row["empty"]] == [None, None]


def test_the_index_of_the_reference_images_is_theirs(fake, monkeypatch):
    assert reference_index(fake).tolist() == list(range(100))
    monkeypatch.setattr(protocol, "FRECHET_IMAGES", 30)
    assert torch.equal(fake.test_images[reference_index(fake)], reference_test_images(fake))


QUICK = read_yaml(ROOT / "config/quick.yaml")
FEATURES = ("classifier", "classifier2", "classifier3")


def test_distances_are_results_of_protocol_2_only(tmp_path):
    def of(study: dict) -> tuple[set, set, set]:
        plan = Plan(study, tmp_path)
        made = {result.path for result in results_of(plan)}, set(inputs_of(plan, "table")), files_of(study, "table")
        return tuple({path for path in paths if "distances" in path} for paths in made)

    paths = {distances_path("digits", name) for name in FEATURES}
    tables = {f"results/studies/quick/tables/distances.{suffix}" for suffix in ("csv", "tex", "html", "json")}
    assert of(check(QUICK)) == (paths, paths, tables)
    first = {key: value for key, value in QUICK.items() if key not in ("protocol", "claims")}
    assert of(check(first)) == (set(), set(), set())


def test_the_table_has_a_line_for_each_change_and_a_column_for_each_extractor(on_digits, tmp_path):
    _, row = on_digits
    for name in FEATURES[:2]:
        write_json(tmp_path / distances_path("digits", name), row)
    lost = row | {"distances": {}, "empty": {change.name: "few" for change in CHANGES}}
    write_json(tmp_path / distances_path("digits", "classifier3"), lost)
    table = table_of_distances(check(QUICK), [{"dataset": "digits", "test_images": 360}], tmp_path)
    assert list(table.frame) == ["dataset", "change", "fd_classifier", "fd_classifier2", "fd_classifier3"]
    frame = table.frame.set_index("change")
    assert frame.loc["blur_1.0", "fd_classifier"] == row["distances"]["blur_1.0"]
    assert list(table.text)[2:] == ["FD classifier", "FD classifier 2", "FD classifier 3"]
    assert list(table.text["FD classifier 3"]) == ["–"] * len(CHANGES)
    assert table.text.loc[4, "FD classifier"] == f"{row['distances']['blur_0.5']:,.2f}"
