"""The project's files agree with one another."""

import re
import tomllib
from pathlib import Path

import yaml

import bvae

ROOT = Path(__file__).resolve().parents[1]


def lock_lines() -> list[str]:
    return [line for line in (ROOT / "requirements.lock").read_text().splitlines() if line and line[0] != "#"]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_environment_yml_is_built_on_the_lock():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    [pip] = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert pip == lock_lines()


def test_lock_pins_every_dependency_exactly():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    direct = project["dependencies"] + [name for extra in project["optional-dependencies"].values() for name in extra]
    pinned = {normal(line.split("==")[0]): line for line in lock_lines()}
    assert all(re.match(r"[A-Za-z0-9._-]+==[0-9]", line) for line in lock_lines())
    assert [name for name in direct if normal(re.match(r"[A-Za-z0-9._-]+", name).group()) not in pinned] == []


def test_config_readme_names_every_key_of_the_schema():
    schema = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())

    def keys(node: dict, prefix: str):
        for name, value in node.get("properties", {}).items():
            value = value.get("items", value) if value.get("type") == "array" else value
            inner = [*keys(value, f"{prefix}{name}."), *keys(value.get("additionalProperties") or {}, "")]
            yield from inner or [prefix + name]

    text = (ROOT / "config/README.md").read_text().replace("[]", "")
    found = list(keys({"properties": schema["properties"]}, ""))
    assert len(found) > 25
    assert [key for key in found if f"`{key}`" not in text] == []


def test_citation_names_the_version():
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == bvae.__version__
