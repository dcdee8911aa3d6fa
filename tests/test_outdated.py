"""What a finished study would make again after a change: exactly what depends on it, whatever Snakemake remembers."""

import ast
import hashlib
import json
import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

import bvae
from bvae.__main__ import read_rule
from bvae.data import fetch, load, save
from bvae.data.dataset import arrays_sha256
from bvae.errors import InputError
from bvae.evaluation import protocol
from bvae.report import made_from as module
from bvae.report.made_from import Plan, results_of
from bvae.report.outdated import outdated, refuse_own_data, tell_left_over
from bvae.system.contents import Contents
from bvae.system.files import read_facts, read_yaml, write_json, write_text
from bvae.system.options import as_flags
from bvae.system.stamps import OLD, set_stamps, stamp_of
from helpers.checkouts import QUICK, ROOT, snakemake
from helpers.studies import check, planned_jobs

DATA = "resources/data/digits.safetensors"
EVERY = {"table": 1, "claims": 1, "figures": 1, "slow_figures": 1}  # what is made of the runs
OF_IMAGES = {"controls": 1, "pca": 1, "reference": 3, "distortions": 3, "untrained": 1, "cost": 1, "diagrams": 1}
PATTERNS = {  # of the file that says what a rule's result was made from
    "data": r"resources/data/[^/]+",
    "reference": r"results/references/.+",
    "controls": r"results/controls/[^/]+/controls\.json",
    "pca": r"results/controls/[^/]+/pca\d+\.json",
    "distortions": r"results/controls/[^/]+/distances-\w+\.json",
    "untrained": r"results/untrained/.+",
    "cost": r"results/costs/.+",
    "train": r".+/model\.safetensors",
    "evaluate": r".+/metrics-\w+\.json",
    "diagrams": r"results/networks/.+/made_from\.json",
    **{rule: rf"results/studies/.+/made_from/(.+/)?{rule}\.json" for rule in EVERY},
}


def edited(change: Callable[[dict], object]) -> dict:
    config = read_yaml(ROOT / "config/quick.yaml")
    change(config)
    return check(config)


def found_in(checkout: Path, study: dict) -> dict[str, int]:
    """How many results of each rule are outdated or missing, before anything that depends on them is looked at."""
    plan = Plan(study, checkout)
    paths = outdated(plan, results_of(plan))
    rules = [next(rule for rule, pattern in PATTERNS.items() if re.fullmatch(pattern, path)) for path in paths]
    return dict(Counter(rules))


def training(**values) -> Callable:
    return lambda config: config["recipes"]["mlp-quick"]["training"].update(values)


def recipe(**values) -> Callable:
    return lambda config: config["recipes"]["mlp-quick"].update(values)


def block(**values) -> Callable:
    return lambda config: config["blocks"][0].update(values)


def first_protocol(config: dict) -> None:
    """The study judged by protocol 1."""
    del config["protocol"], config["claims"]


def without_gain(config: dict) -> None:
    """The study with one arm less, and without the claim about it."""
    config["blocks"][0]["arms"].remove("bvae_gain")
    del config["claims"][0]


RUNS = {"train": 12, "evaluate": 12, **EVERY}
OF_SETTINGS = RUNS | {"untrained": 1, "cost": 1}
OF_NETWORK = OF_SETTINGS | {"diagrams": 1}
STUDIES = {  # a change of the quick study, and what it makes again
    "nothing": (lambda config: None, {}),
    "title": (lambda config: config.update(title="Another"), {"table": 1, "claims": 1}),
    "figure_seed": (lambda config: config.update(figure_seed=2), EVERY),
    "epochs": (training(epochs=7), OF_SETTINGS),
    "batch_size": (training(batch_size=32), OF_SETTINGS),
    "weight_decay": (training(weight_decay=0.01), OF_SETTINGS),
    "precision": (recipe(precision="bfloat16"), OF_SETTINGS),
    "threads": (recipe(threads=3), OF_SETTINGS),
    "network": (recipe(network={"architecture": "mlp", "hidden": [24]}), OF_NETWORK),
    "objective": (recipe(objective={"beta": 2.0}), OF_NETWORK),
    "likelihood": (recipe(likelihood={"name": "gaussian"}), OF_NETWORK),
    "importance": (recipe(importance={"samples": [1, 10]}), {"evaluate": 12, **EVERY}),
    "features": (
        lambda config: config.update(features=["classifier", "classifier2", "classifier3", "inception"]),
        {"reference": 1, "distortions": 1, "evaluate": 12, **EVERY},
    ),
    "claims": (lambda config: config["claims"].pop(), {"claims": 1}),
    "protocol": (first_protocol, {"evaluate": 12, **EVERY}),
    "one seed more": (block(seeds=[0, 1, 2, 3]), {"train": 4, "evaluate": 4, **EVERY}),
    "one seed less": (block(seeds=[0, 1]), EVERY),
    "the first seed less": (block(seeds=[1, 2]), {"untrained": 1, **EVERY}),
    "one arm less": (without_gain, EVERY),
    "one arm more": (
        block(arms=["bvae", "bvae_gain", "vae", "vae_narrow", "vae_s80"]),
        {"train": 3, "evaluate": 3, "cost": 1, **EVERY},
    ),
    "another latent dimension": (
        block(latent_dims=[9]),
        RUNS | {"pca": 1, "untrained": 1, "cost": 1, "diagrams": 1},
    ),
}


@pytest.mark.parametrize("name", STUDIES)
def test_a_change_of_the_study_makes_exactly_what_depends_on_it(quick, name):
    change, expected = STUDIES[name]
    assert found_in(quick, edited(change)) == expected


CODE = {  # a change of the code, and what it makes again before what depends on that
    "TRAINING_VERSION": RUNS | {"untrained": 1, "cost": 1, "diagrams": 1},
    "task": {"evaluate": 12, "controls": 1, "pca": 1, "untrained": 1},
    "extractor": {"reference": 1},
}


@pytest.mark.parametrize("name", CODE)
def test_a_change_of_a_version_makes_exactly_what_depends_on_it(quick, name, monkeypatch):
    if name == "TRAINING_VERSION":
        monkeypatch.setattr("bvae.TRAINING_VERSION", 99)
    elif name == "task":
        monkeypatch.setitem(module.TASKS, "classification", replace(module.TASKS["classification"], version=99))
    else:
        monkeypatch.setattr(module.EXTRACTORS["classifier"], "version", 99)
    assert found_in(quick, edited(lambda config: None)) == CODE[name]


def test_numbers_of_the_protocol_change_with_a_version():
    """Results know the versions of what made them, not these numbers.

    If you change a number, raise the version of each task, extractor or control whose results it alters; otherwise old
    results count as current.
    """
    names = ["FIGURE_IMAGES", "TSNE_IMAGES", "TSNE_PERPLEXITY", "COST_ROUNDS", "COST_SECONDS"]  # not of results of runs
    numbers = {name: value for name, value in vars(protocol).items() if name.isupper() and name not in names}
    assert numbers == {
        "FRECHET_IMAGES": 10_000,
        "INCEPTION_FEATURES": 2_048,
        "FID_MINIMUM_IMAGES": 2_049,
        "FID_MINIMUM_SIZE": 28,
        "INCEPTION_WEIGHTS": "resources/weights/weights-inception-2015-12-05-6726825d.pth",
        "INCEPTION_SHA256": "6726825d",
        "CLASSIFIER_FEATURES": 64,
        "CLASSIFIER_IMAGES_PER_FEATURE": 10,
        "CLASSIFIER_MINIMUM_FEATURES": 8,
        "CLASSIFIER_STEPS": 2_000,
        "ACTIVE_UNIT_VARIANCE": 0.01,
        "ELBO_SAMPLES": 2,
        "SSIM_WINDOW": 11,
        "KNN_NEIGHBOURS": 10,
        "TRUSTWORTHINESS_NEIGHBOURS": 12,
        "TRUSTWORTHINESS_IMAGES": 2_000,
        "KID_SUBSETS": 100,
        "KID_SUBSET_SIZE": 1_000,
        "PRECISION_NEIGHBOURS": 3,
        "MIXTURE_COMPONENTS": 10,
        "MIXTURE_IMAGES": 10_000,
        "PATH_STEPS": 8,
        "PATH_PAIRS": 100,
        "PROBE_STRENGTHS": (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0),
        "PROBE_VALIDATION_IMAGES": 5_000,
        "PROBE_SEARCH_IMAGES": 20_000,
        "PROBE_CONTROL_IMAGES": 20_000,
        "CONTROL_IMAGES": 20_000,
        "CONTROL_VALUES": 1_000,
        "CONTROL_STRENGTHS": (1e-4, 1e-3, 1e-2, 1e-1),
        "DISTORTION_BLURS": (0.5, 1.0),
        "DISTORTION_NOISES": (0.05, 0.1),
        "DISTORTION_CONTRAST": 0.9,
    }
    assert {name: task.version for name, task in module.TASKS.items()} == {
        "size": 4,
        "reconstruction": 4,
        "latents": 4,
        "importance": 4,
        "same_images": 1,
        "interpolation": 4,
        "paths": 1,
        "classification": 4,
        "probes": 1,
        "distances": 4,
    }
    assert {extractor.version for extractor in module.EXTRACTORS.values()} == {4}
    assert (module.DISTORTIONS, bvae.TRAINING_VERSION) == (1, 1)


def test_code_that_makes_figures_or_tables_is_part_of_what_they_are_made_from(tmp_path, monkeypatch):
    package = tmp_path / "bvae"
    shutil.copytree(ROOT / "bvae", package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(module, "__file__", str(package / "report/made_from.py"))
    kinds = (module.OF_DIAGRAMS, module.OF_TABLES, module.OF_FIGURES)
    changed = {}
    for path in ("report/figures/samples.py", "report/claims.py", "arms/vae.py", "training.py"):
        before = [module.code_hash(kind) for kind in kinds]
        with (package / path).open("a") as file:
            file.write("# a word\n")
        changed[path] = [old != new for old, new in zip(before, map(module.code_hash, kinds), strict=True)]
    assert changed == {
        "report/figures/samples.py": [True, False, True],
        "report/claims.py": [False, True, True],
        "arms/vae.py": [True, True, True],
        "training.py": [False, False, False],  # its version says what alters numbers
    }


# What tables and figures import, and need not be made again for: their settings, results and data are compared
# themselves, versions say what alters numbers, and the rest computes none.
COMPARED_OTHERWISE = {
    *("__init__.py", "architectures/__init__.py", "data/__init__.py", "data/checks.py", "data/dataset.py", "errors.py"),
    *("evaluation/__init__.py", "evaluation/measures.py", "evaluation/per_image.py", "evaluation/probes.py"),
    *("evaluation/references.py", "networks.py", "objective.py", "runs.py", "study/config.py", "system/batching.py"),
    *("system/contents.py", "system/devices.py", "system/files.py", "system/locks.py", "system/records.py"),
    *("system/processors.py", "system/seeds.py", "training.py"),
}


@pytest.mark.parametrize(
    ("kind", "makers", "others"),
    [
        ("OF_TABLES", "report/*.py", {"evaluation/draws.py", "evaluation/trained.py"}),  # made into results
        ("OF_FIGURES", "report/figures/*.py", set()),
    ],
)
def test_all_code_that_tables_and_figures_come_from_is_known(kind, makers, others):
    """All modules that their makers import, at first or second hand."""
    package = ROOT / "bvae"
    matched = {path for pattern in getattr(module, kind) for path in package.glob(pattern)}
    seen, to_do = set(), [path for path in package.glob(makers) if path.stem not in NO_MAKERS]
    while to_do:
        if (path := to_do.pop()) not in seen:
            seen.add(path)
            to_do += imported_by(path)
    names = {path.relative_to(package).as_posix() for path in seen - matched}
    assert names <= COMPARED_OTHERWISE | others


NO_MAKERS = {
    *("steps", "ro_crate", "tensorboard", "summary", "model_cards", "publication", "published_data", "run_records"),
}


def imported_by(path: Path) -> Iterator[Path]:
    """The modules of the package that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "bvae":
            for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
                place = ROOT / name.replace(".", "/")
                yield from (found for found in (place.with_suffix(".py"), place / "__init__.py") if found.exists())


def replace_by_older(path: Path, content: bytes) -> None:
    """Replace a file by one that says it is older than every result."""
    path.write_bytes(content)
    os.utime(path, (1_500_000_000,) * 2)


def with_other_images(path: Path) -> None:
    """Replace a data set by one of other training images and an older time stamp."""
    dataset = load(path)
    dataset = replace(dataset, train_images=255 - dataset.train_images)
    save(replace(dataset, sha256=arrays_sha256(dataset.tensors())), path)
    replace_by_older(path, path.read_bytes())


def test_files_that_change_or_go_are_noticed(quick_copy):
    """One at a time; the sound study lies between two changes. Time stamps say that nothing is newer."""
    study = edited(lambda config: None)
    of_data = {"train": 12, "evaluate": 12, "figures": 1, "slow_figures": 1} | OF_IMAGES

    def swapped(path: Path) -> None:
        replace_by_older(
            path, next(p for p in path.parent.parent.glob("*/model.safetensors") if p != path).read_bytes()
        )

    changes = [  # a pattern of files, what is done to the first of them, what is made again before what depends on it
        (DATA, with_other_images, of_data),
        (DATA, Path.unlink, {"data": 1} | of_data),
        ("config/claims.yaml", lambda path: replace_by_older(path, path.read_bytes() + b"\n"), {}),  # of protocol 1
        ("results/runs/*/*/*/model.safetensors", Path.unlink, {"train": 1, "evaluate": 1}),
        ("results/runs/*/*/*/model.safetensors", swapped, {"train": 1, "evaluate": 1}),
        ("results/runs/*/*/*/model.safetensors", lambda path: path.write_bytes(b"x" * 99), {"train": 1, "evaluate": 1}),
        ("results/runs/*/*/*/history.csv", Path.unlink, {"train": 1, "figures": 1, "slow_figures": 1}),
        ("results/runs/*/*/*/history.csv", lambda path: path.write_text("x"), {"figures": 1, "slow_figures": 1}),
        ("results/runs/*/*/*/metrics-*.json", Path.unlink, {"evaluate": 1, **EVERY}),
        ("results/runs/*/*/*/metrics-*.json", lambda path: path.write_text("{"), {"evaluate": 1, **EVERY}),
        ("results/runs/*/*/*/metrics-*.json", lambda path: path.write_text("[]"), {"evaluate": 1, **EVERY}),
        ("results/studies/*/made_from/table.json", lambda path: path.write_text("[]"), {"table": 1}),
        ("results/runs/*/*/*/per_image-*", Path.unlink, {"evaluate": 1}),
        ("results/runs/*/*/*/per_image-*", lambda path: path.write_bytes(b"x" * 99), {"evaluate": 1}),
        ("results/references/*", Path.unlink, {"reference": 1, "distortions": 1, "evaluate": 12}),
        ("results/controls/*/controls.json", Path.unlink, {"controls": 1, "table": 1}),
        ("results/controls/*/distances-*.json", Path.unlink, {"distortions": 1, "table": 1}),
        ("results/controls/*/pca8.json", Path.unlink, {"pca": 1, "table": 1}),
        ("results/untrained/*/*", Path.unlink, {"untrained": 1, "table": 1}),
        ("results/costs/*/*", Path.unlink, {"cost": 1, "table": 1}),
        ("results/networks/*/*/made_from.json", Path.unlink, {"diagrams": 1}),
        ("results/studies/*/made_from/table.json", Path.unlink, {"table": 1}),
        ("results/studies/*/tables/table1.csv", lambda path: path.write_text("n\n1\n"), {"table": 1}),
        ("results/studies/*/figures/*/*/samples.svg", Path.unlink, {"figures": 1}),
        ("results/networks/*/*/blocks.png", lambda path: path.write_bytes(b"png"), {"diagrams": 1}),
    ]
    for pattern, change, expected in changes:
        path = sorted(quick_copy.glob(pattern))[0]
        kept = path.read_bytes()
        change(path)
        assert found_in(quick_copy, study) == expected, (pattern, change)
        path.write_bytes(kept)
        assert found_in(quick_copy, study) == {}


def test_without_records_of_snakemake_and_with_any_triggers_the_plan_is_the_same(quick_copy):
    """Results that were copied without .snakemake, and a site's own triggers."""

    def plan(*more: str) -> dict[str, int]:
        done = snakemake(quick_copy, "-n", *QUICK, *more)
        assert done.returncode == 0, done.stdout[-3000:]
        return {rule: n for rule, n in planned_jobs(done.stdout).items() if rule not in ("default", "total")}

    shutil.rmtree(quick_copy / ".snakemake")
    assert plan() == {}
    metrics = sorted(quick_copy.glob("results/runs/*/*/*/metrics-*.json"))
    metrics[0].with_name("model.safetensors").unlink()
    expected = {"train": 1, "evaluate": 1, **EVERY}
    assert plan("--rerun-triggers", "mtime") == expected
    assert plan("--rerun-triggers", "code", "input", "mtime", "params", "software-env") == expected
    (quick_copy / "results/studies/quick/figures/mlp-quick/digits-z8/samples.svg").unlink()
    assert plan("--", str(metrics[1].relative_to(quick_copy))) == {}


def test_copies_in_any_order_are_current(quick_copy):
    """Every file is older than what it was made from, and there are no records of Snakemake's."""
    shutil.rmtree(quick_copy / ".snakemake")
    paths = sorted(path for part in ("results", "resources") for path in (quick_copy / part).rglob("*"))
    for age, path in enumerate(paths):  # the data come last
        os.utime(path, (1_600_000_000 + age,) * 2)
    assert "Nothing to be done" in snakemake(quick_copy, "-n", *QUICK).stdout


@pytest.mark.slow
def test_what_was_made_again_is_current(quick_copy):
    """Another title, with the triggers that Snakemake has by itself: the second start has nothing to do."""
    study = yaml.safe_load((quick_copy / "config/quick.yaml").read_text())
    (quick_copy / "config/quick.yaml").write_text(yaml.safe_dump(study | {"title": "Another"}))
    default = ("--workflow-profile", "none", "--cores", "2", "--configfile", "config/quick.yaml", "--")
    targets = ("results/studies/quick/claims.csv", "results/studies/quick/tables/table1.csv")
    done = snakemake(quick_copy, *default, *targets)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "Another" in (quick_copy / "results/studies/quick/claims.md").read_text()
    assert "Nothing to be done" in snakemake(quick_copy, *default, *targets).stdout
    assert "Nothing to be done" in snakemake(quick_copy, *QUICK).stdout


# --- data sets of one's own ------------------------------------------------------------------------------------------


def test_a_rule_says_what_its_data_set_is_made_from():
    output = Path("resources/data/wrens.safetensors")
    command = "cd x && python -m bvae fetch 'folder:my wrens' --name wrens --size 16 \\\n --output y --log z"
    assert read_rule(command, output, "wrens.smk") == {"source": "folder:my wrens --size 16"}
    other = "bvae fetch npz:a.npz --name wrens --sha256 12ab --output x > log && echo fetch"
    assert read_rule(other, output, "wrens.smk") == {"source": "npz:a.npz", "sha256": "12ab"}
    for unread in ("", "make wrens", "python -m bvae fetch a --size b --name wrens", "echo 'bvae fetch", "# a"):
        assert read_rule(unread, output, "wrens.smk") == {}
    with pytest.raises(InputError, match=r"wrens\.smk.*--name wrens.*--name robins"):
        read_rule(command, Path("resources/data/robins.safetensors"), "wrens.smk")


def test_options_are_flags_in_their_order():
    assert as_flags({"size": 64, "mode": None, "labels": "a b.csv", "skip_corrupt": True}) == [
        "--size 64",
        "--labels a b.csv",
        "--skip-corrupt",
    ]


def test_a_data_set_whose_rule_has_other_options_is_refused_with_a_remedy_that_works(plan):
    path, data = plan / "workflow/rules/datasets/wrens.smk", "resources/data/wrens.safetensors"
    rule = 'rule wrens:\n    output:\n        "{}",\n    shell:\n        "python -m bvae fetch sklearn:digits'
    rule += ' --name {} {} --output {{output:q}}"\n'
    study = yaml.safe_load((plan / "config/quick.yaml").read_text())
    study["blocks"][0]["datasets"] = ["wrens"]
    del study["claims"]  # of digits
    (plan / "config/wrens.yaml").write_text(yaml.safe_dump(study))
    dry_run = ("-n", "--configfile", "config/wrens.yaml", "--", data)

    path.write_text(rule.format(data, "robins", ""))
    refused = snakemake(plan, *dry_run)
    assert refused.returncode == 1 and "--name robins" in refused.stdout and "Traceback" not in refused.stdout
    path.write_text(
        'TAKEN = "--validation 100"\n\n\nrule wrens:\n    output:\n        "resources/data/wrens.safetensors",\n'
        '    params:\n        source=["sklearn:digits", "--name", "wrens"],\n        more=lambda wildcards: TAKEN,\n'
        '    shell:\n        "python -m bvae fetch {params.source} {params.more} --output {output:q}"\n'
    )
    fetch.fetch("sklearn:digits", name="wrens", output=plan / data)
    refused = snakemake(plan, *dry_run)
    assert refused.returncode == 1 and f"{data} was made from source sklearn:digits" in refused.stdout
    (plan / data).unlink()
    assert planned_jobs(snakemake(plan, *dry_run).stdout)["wrens"] == 1


def test_what_a_study_does_not_make_any_more_is_told(tmp_path, caplog):
    study = edited(without_gain)
    plan = Plan(study, tmp_path)
    results = results_of(plan)
    folder = tmp_path / "results/studies/quick"
    kept = [path for result in results for path in (result.path, *result.also) if path.startswith("results/studies/")]
    for path in (*(tmp_path / path for path in kept), folder / "notes.txt"):
        write_text(path, "")
    tell_left_over(plan, results)
    assert caplog.messages == []
    figures = "figures/mlp-quick/digits-z8"
    assert f"results/studies/quick/{figures}/samples.svg" in kept
    old = ["figures/mlp-old/digits-z8/samples.png", f"{figures}/latent_gains.svg", "tuning.csv"]
    for name in old:
        write_text(folder / name, "")
    tell_left_over(plan, results)
    [message] = caplog.messages
    assert message.endswith(", ".join(f"results/studies/quick/{name}" for name in old))


def test_only_data_sets_of_ones_own_are_refused():
    refuse_own_data({"a": "was made from source x, which is now y", "b": "is missing"}, ["b", "c"])
    with pytest.raises(InputError, match="a was made from source x"):
        refuse_own_data({"a": "was made from source x, which is now y"}, ["a"])


# --- contents and stamps ---------------------------------------------------------------------------------------------


def test_a_hash_is_kept_and_a_file_that_was_replaced_is_hashed_again(tmp_path, monkeypatch):
    """Replaced by one of the same size and the same time stamp, and even within a tick of the file system's clock."""
    digests = [hashlib.sha256(content).hexdigest() for content in (b"first", b"other")]
    path, kept = tmp_path / "a.bin", tmp_path / "kept.json"
    path.write_bytes(b"first")
    first = Contents(tmp_path, kept)
    assert (first.sha256("a.bin"), first.sha256("none.bin"), first.sha256(".")) == (digests[0], None, None)
    first.keep()
    assert json.loads(kept.read_text()) == {}
    stamp = path.stat()
    with monkeypatch.context() as patch:
        patch.setattr("time.time_ns", lambda: stamp.st_ctime_ns + 3 * 10**9)
        first.keep()
        patch.setattr("bvae.system.contents.sha256_of_file", pytest.fail)
        assert Contents(tmp_path, kept).sha256("a.bin") == digests[0]
    time.sleep(0.1)
    path.write_bytes(b"other")
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert Contents(tmp_path, kept).sha256("a.bin") == digests[1]
    for damaged in ("{", "[]", '{"a.bin": 1}'):
        kept.write_text(damaged)
        assert Contents(tmp_path, kept).sha256("a.bin") == digests[1]


def test_facts_are_those_of_the_file_and_damage_is_named(tmp_path, fake):
    save(fake, tmp_path / "a.safetensors")
    assert read_facts(tmp_path / "a.safetensors")["sha256"] == fake.sha256
    whole = (tmp_path / "a.safetensors").read_bytes()
    others = (b"\x02" + b"\0" * 7 + b"{}", whole.replace(b'"bvae"', b'"eavb"'))
    for content in (b"", b"\xff" * 8, whole[:40], whole[:-1], whole + b"\0", *others):
        (tmp_path / "a.safetensors").write_bytes(content)
        with pytest.raises(InputError, match="found format None" if content in others else "damaged"):
            read_facts(tmp_path / "a.safetensors")


def test_a_stamp_is_newer_than_what_is_outdated_and_older_than_the_rest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        write_json(name, {})
    os.utime("b", (4e9, 4e9))  # by a clock that is ahead
    set_stamps(["a", "b", "c"], {"b": "is old", "c": "is missing"})
    times = {name: os.stat(stamp_of(name)).st_mtime for name in "abc"}
    assert times["a"] == OLD and times["b"] > 4e9 and times["c"] > os.stat("a").st_mtime - 1
    first = Path(stamp_of("b")).read_text()
    set_stamps(["a", "b", "c"], {"b": "is old"})
    assert Path(stamp_of("b")).read_text() != first  # Snakemake compares checksums with the last it knew
    assert os.stat(stamp_of("c")).st_mtime == OLD and Path(stamp_of("c")).read_text() == ""
    set_stamps(["b"], {"b": "is"})  # shorter than before
    assert re.fullmatch(r"b is \(\d+\)\n", Path(stamp_of("b")).read_text())
