"""The pages agree with the code and with one another: quotations of the training algorithm, links."""

import ast
import re
import textwrap
from pathlib import Path

import pytest
import yaml

from bvae import Bernoulli, plan
from bvae.arms import ARMS
from bvae.networks import parameter_breakdown
from bvae.report.variants import ABSOLUTE, RELATIVE
from bvae.study.claims import expand_claims
from helpers.studies import FOUR, check, sound

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/model.md").read_text(encoding="utf-8")
NAMED = re.compile(r"((?:`[\w.]+`(?:\s+and\s+)?)+)\s+in\s+`(bvae/\w+\.py)`")


def functions(path: Path) -> dict[str, str]:
    """The sources of a file's functions and methods by name, as `train` and `VAE.decode`."""
    text, found = path.read_text(encoding="utf-8"), {}
    for node in ast.parse(text).body:
        prefix = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
        for member in node.body if prefix else [node]:
            if isinstance(member, ast.FunctionDef):
                found[prefix + member.name] = ast.get_source_segment(text, member, padded=True)
    return found


def quotations() -> list[tuple[list[str], str, str]]:
    """Each snippet of the page with the functions and the file that were named last before it."""
    found = []
    for match in re.finditer(r"```python\n(.*?)```", PAGE, re.DOTALL):
        names, file = NAMED.findall(PAGE[: match.start()])[-1]
        found.append((re.findall(r"[\w.]+", names.replace(" and ", " ")), file, match[1]))
    return found


def test_the_page_quotes_every_step_and_objective():
    named = {name for names, _, _ in quotations() for name in names}
    assert named >= {
        "evaluate_elbo",
        "sample_posterior",
        "Linear.encode",
        "Linear.decode",
        "training_step",
        "train_run",
    }
    assert named >= {"elbo_loss", "iwae_loss", "beta_tc_loss"}
    assert re.findall(r"^### (\d)\.", PAGE, re.MULTILINE) == list("123456")


@pytest.mark.parametrize(("names", "file", "snippet"), quotations())
def test_a_snippet_stands_verbatim_in_the_function_named(names, file, snippet):
    sources = functions(ROOT / file)
    places = [textwrap.indent(snippet, " " * spaces) for spaces in (4, 8, 12)]
    assert any(place in f"{sources[name]}\n" for name in names for place in places)


def test_the_tests_that_the_page_names_exist():
    named = re.findall(r"`(tests/\w+\.py)::(\w+)`", PAGE)
    assert named
    for file, name in named:
        assert name in functions(ROOT / file)


def page_rows(name: str) -> list[list[str]]:
    """The cells of every line of every table of a page in docs/."""
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    return [re.split(r"(?<!\\) \| ", line.strip("| ")) for line in text.splitlines() if line.startswith("| ")]


@pytest.mark.parametrize(
    ("name", "network"),
    [
        ("`mlp` 784-512-256", {"architecture": "mlp", "hidden": [512, 256]}),
        (
            "`resnet`, width 16, neck 16, hidden 128",
            {"architecture": "resnet", "width": 16, "neck": 16, "hidden": [128]},
        ),
    ],
)
def test_the_page_of_the_architecture_counts_parameters_as_the_modules_do(name, network):
    [row] = [row for row in page_rows("model.md") if row[0] == name]
    layout = plan(network, channels=1, size=28, latent_dim=128)
    counts = [parameter_breakdown(ARMS[arm].model(layout, Bernoulli()))["total"] for arm in FOUR]
    assert row[1:5] == [f"{count:,}" for count in counts]
    assert row[5] == f"{100 * (1 - counts[0] / counts[2]):.1f} %"


PLACES = ("*.md", "config/*.md", "docs/*.md", "workflow/**/*.md")
PAGES = sorted(path for pattern in PLACES for path in ROOT.glob(pattern))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_within_the_repository_leads_somewhere(page):
    text = re.sub(r"^( {4}|```).*$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE)  # no code
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists() and found.is_relative_to(ROOT), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", found.read_text(encoding="utf-8"), re.MULTILINE)
            names = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
            assert anchor in names, target


def test_the_pages_are_found_and_have_links():
    assert {"README.md", "CHANGELOG.md", "design.md", "results.md", "notebook.md", "reliability.md"} <= {
        p.name for p in PAGES
    }
    assert sum(page.read_text(encoding="utf-8").count("](") for page in PAGES) > 40


def test_the_study_that_the_page_of_protocol_2_shows_is_sound():
    page = (ROOT / "docs/protocol.md").read_text(encoding="utf-8")
    [shown] = re.findall(r"(?m)^ {4}protocol: 2\n(?: {4}.*\n)+", page)
    place = {"datasets": ["digits"], "recipes": ["plain"], "latent_dims": [128], "seeds": [0]}
    study = check(sound() | yaml.safe_load(textwrap.dedent(shown)) | {"blocks": [place]})
    found = expand_claims(study)
    assert [claim["test"] for claim in found] == ["outperforms", "matches", "fails_more"]
    assert found[0]["arms"] == ["bvae_gain", "vae_narrow"] and found[1]["task"] == "reconstruction"


def test_the_page_of_protocol_2_says_its_margins():
    said = {row[0].strip("`"): row[2] for row in page_rows("protocol.md") if len(row) == 3}
    for task, share in RELATIVE.items():
        assert said[task] == f"{100 * share:.0f} % of the second arm's"
    assert said["elbo"] == f"{ABSOLUTE['elbo']} nats on 28x28 images"
    assert said["classification"] == f"{100 * ABSOLUTE['classification']} points"
