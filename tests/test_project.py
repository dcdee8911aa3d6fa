"""The project's files agree with one another."""

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pandas as pd
import pytest
import yaml
from docutils.core import publish_string
from jinja2 import Template

import bvae
from bvae.arms import ARMS
from bvae.evaluation.extractors import EXTRACTORS
from bvae.networks import plan
from bvae.objective import build_likelihood
from bvae.report.figures import FIGURES
from bvae.system.files import read_yaml
from helpers.studies import FOUR

ROOT = Path(__file__).resolve().parents[1]


def lock_lines() -> list[str]:
    return [line for line in (ROOT / "requirements.lock").read_text().splitlines() if line and line[0] != "#"]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_environment_yml_is_built_on_the_lock():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    [pip] = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert pip == lock_lines()


def test_the_image_is_built_on_the_lock_and_the_python_of_environment_yml():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    [python] = [entry for entry in environment["dependencies"] if str(entry).startswith("python=")]
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert re.findall(r"^FROM python:(\S+)-slim$", dockerfile, re.MULTILINE) == [python.removeprefix("python=")]
    assert re.findall(r"pip install (.*)$", dockerfile, re.MULTILINE) == ["--no-cache-dir -r requirements.lock"]


def test_lock_pins_every_dependency_exactly():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    direct = project["dependencies"] + extras["workflow"] + extras["dev"]  # peers of the benchmark are left out
    pinned = {normal(line.split("==")[0]): line for line in lock_lines()}
    assert all(re.match(r"[A-Za-z0-9._-]+==[0-9]", line) for line in lock_lines())
    assert [name for name in direct if normal(re.match(r"[A-Za-z0-9._-]+", name).group()) not in pinned] == []


@pytest.mark.parametrize("folder", ["config", "profiles", "workflow", "bvae"])
def test_no_line_of_a_shipped_file_is_other_than_it_seems(folder):
    paths = sorted((ROOT / folder).rglob("*.yaml"))
    assert paths and all(map(read_yaml, paths))


def load_script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"tools/{name}.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def test_config_readme_has_every_key():
    """Each key with its values, default and meaning: the tables that `make pages` writes."""
    page = (ROOT / "config/README.md").read_text(encoding="utf-8")
    assert page.count("\n| `") == 54 + len(ARMS) + len(EXTRACTORS) + len(FIGURES)
    assert "| `training.learning_rate` | number > 0, or one for each arm | required | Peak" in page
    assert "| `importance.samples` | list of integers 1 to 1,000,000 | 1, 10, 100, 1000, 5000 |" in page


def test_every_default_of_the_config_page_is_the_one_that_is_used():
    """`x-default` is prose: what it says must be what the code does where a file says nothing."""
    maps = plan({"architecture": "resnet", "hidden": [8], "width": 64, "neck": 4}, channels=1, size=64, latent_dim=2)
    assert (max(maps.feature_maps), maps.blocks, maps.log_variance_bound) == (512, 1, None)
    assert (build_likelihood({"name": "gaussian"}, channels=3).sigma) == pytest.approx(0.1)
    assert not [*build_likelihood({"name": "gaussian"}, channels=3).parameters()]


def test_the_readme_is_short_and_begins_with_what_matters():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150
    assert "(bvae/networks.py)" in "".join(lines[:30])
    assert "    make quick" in "\n".join(lines[:60])


@pytest.mark.parametrize("study", ["quick", "tuning_mlp"])
def test_the_first_page_of_a_report_says_what_the_study_is(study):
    config = read_yaml(ROOT / f"config/{study}.yaml")
    text = Template((ROOT / "workflow/report/workflow.rst").read_text(encoding="utf-8"))
    said = publish_string(
        text.render(snakemake=SimpleNamespace(config=config)), writer="html", settings_overrides={"halt_level": 2}
    ).decode()
    assert f"This is study <em>{study}</em>" in said and "Seeds: " in said
    assert ("judges nothing" in said) == config.get("tuning", False)


def test_citation_names_the_version():
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == bvae.__version__


@pytest.mark.parametrize("study", ["mnist_mlp", "mnist"])
def test_published_mnist_learned(study):
    """Every arm beats the untrained encoder's probe and the mean image's log-likelihood."""
    table = pd.read_csv(ROOT / f"results/published/{study}-1/tables/table1.csv").set_index("arm")
    arms = table.loc[FOUR]
    assert (arms["n"] >= 3).all()
    assert (arms["probe_accuracy"] > table.loc["untrained", "probe_accuracy"] + 0.05).all()
    assert (arms["elbo"] > table.loc["mean_image", "elbo"] + 100).all()


def test_the_anchor_is_near_the_published_likelihoods():
    run = pd.read_csv(ROOT / "results/published/anchor-1/tables/runs.csv").iloc[0]
    assert (run["nll_images"], run["layout.hidden"], run["latent_dim"], run["arm"]) == (10_000, "[400]", 40, "vae")
    assert 89.0 < run["nll_k200"] < 92.0


def test_published_precisions_agree_within_the_spread_of_the_seeds():
    table = pd.read_csv(ROOT / "results/published/precision-1/tables/table1.csv").query("arm == 'bvae'")
    one, other = (table.set_index("recipe").loc[f"resnet-{precision}"] for precision in ("float32", "bfloat16"))
    assert one["n"] == other["n"] == 3
    for name in ("elbo", "reconstruction", "probe_accuracy", "fd_classifier_samples", "knn_accuracy"):
        assert 0 < abs(one[name] - other[name]) < max(one[f"{name}_sd"], other[f"{name}_sd"])


def test_every_fault_of_the_page_has_its_test():
    page = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
    heads = ("| fault", "| member", "| further member")
    rows = [line for line in page.splitlines() if line.startswith("| ") and not line.startswith(heads)]
    assert len(rows) >= 40
    assert len({row.split(" | ")[0] for row in rows}) == len(rows)
    for row in rows:
        tests = re.fullmatch(r"`(test_\w+\.py::test_\w+(`, `test_\w+\.py::test_\w+)*)` \|", row.split(" | ")[-1])[1]
        for module, test in (name.split("::") for name in tests.split("`, `")):
            text = (ROOT / "tests" / module).read_text(encoding="utf-8")
            assert re.search(rf"^def {test}\(", text, re.MULTILINE), row


CLEAN = {"name": "numpy", "version": "2.4.0", "vulns": []}
FAULTY = {"name": "pillow", "version": "9.0.0", "vulns": [{"id": "PYSEC-2022-10", "fix_versions": ["9.0.1"]}]}
SKIPPED = {"name": "torch", "skip_reason": "Dependency not found on PyPI and could not be audited: torch (2.15.0)"}


@pytest.mark.parametrize(
    ("dependencies", "status", "text"),
    [
        ([CLEAN], 0, "0 known vulnerabilities in 1 packages"),
        ([CLEAN, SKIPPED], 0, "0 known vulnerabilities in 1 packages, 1 not looked up"),
        ([SKIPPED, SKIPPED], 0, "not run: none of the 2 packages"),
        ([CLEAN, FAULTY], 1, "1 known vulnerabilities in 2 packages\npillow 9.0.0: PYSEC-2022-10, fixed in 9.0.1"),
    ],
)
def test_an_audit_says_what_it_found_and_what_it_could_not_look_up(dependencies, status, text):
    found, said = load_script("audit").verdict(dependencies)
    assert found == status
    assert said.startswith(f"pip-audit: {text}")
