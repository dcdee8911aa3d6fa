"""The tables of config/README.md, from the schema of a study: `make docs`."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from bvae.report.typeset import to_markdown
from bvae.study.config import load_schema
from bvae.system.files import write_text

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "config/README.md"
PLURAL = {"integer": "integers", "text": "names"}
PLURALS = re.compile("|".join(PLURAL))
BLOCK = re.compile(r"(?P<head><!-- keys of a (?P<part>study|recipe) -->\n).*?(?P<end><!-- end -->)", re.DOTALL)


def keys(schema: dict, prefix: str = "") -> Iterator[tuple[str, dict, bool]]:
    """Each key of an object's schema, dotted, in order: its own schema, and whether it is required.

    An object is listed by its keys; a list of objects by itself and their keys.
    """
    for name, found in schema.get("properties", {}).items():
        inner = found.get("items", found)
        if inner is found and found.get("type") == "object" and "properties" in found:
            yield from keys(found, f"{prefix}{name}.")
            continue
        yield f"{prefix}{name}", found, name in schema.get("required", ())
        if inner is not found:
            yield from keys(inner, f"{prefix}{name}[].")


def values(schema: dict) -> str:
    """What a key takes, in words."""
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    match schema.get("type"):
        case "array":
            return f"list of {PLURALS.sub(lambda match: PLURAL[match[0]], values(schema['items']))}"
        case "boolean":
            return "`true`, `false`"
        case "object":
            return "settings" if "properties" in schema else "settings by name"
        case "string":
            return "name" if "pattern" in schema else "text"
        case [kind, "object"]:
            return f"{values(schema | {'type': kind})}, or one for each arm"
        case kind:
            return " ".join([kind, *_bounds(schema)])


def _bounds(schema: dict) -> Iterator[str]:
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is not None and most is not None:
        yield f"{least:,} to {most:,}"
    elif least is not None:
        yield f"≥ {least:,}"
    if "exclusiveMinimum" in schema:
        yield f"> {schema['exclusiveMinimum']:,}"


def default(schema: dict, required: bool) -> str:
    """What holds where a file says nothing."""
    if required:
        return "required"
    if "x-default" in schema:
        return schema["x-default"]
    value = schema["default"]
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value).removesuffix(".0")


def table(schema: dict) -> str:
    """The keys of an object's schema as a table."""
    lines = [
        {
            "key": f"`{key}`",
            "value": values(found),
            "default": default(found, required),
            "meaning": found["description"],
        }
        for key, found, required in keys(schema)
    ]
    return to_markdown(pd.DataFrame(lines))


def fill(page: str) -> str:
    """The page with its tables written anew."""
    schema = load_schema()
    parts = {"study": schema, "recipe": schema["properties"]["recipes"]["additionalProperties"]}
    return BLOCK.sub(lambda match: f"{match['head']}{table(parts[match['part']])}{match['end']}", page)


def main() -> None:
    """Write the page."""
    write_text(PAGE, fill(PAGE.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
