"""The page of the training algorithm quotes the code as it stands."""

import ast
import re
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/training.md").read_text(encoding="utf-8")
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
