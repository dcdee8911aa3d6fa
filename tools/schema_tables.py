"""The tables of pages that are made from the schema of a study and from the records of arms, figures and metrics."""

import json
import re
from collections.abc import Iterable, Iterator

import pandas as pd

from bvae.arms import ARMS
from bvae.evaluation.extractors import EXTRACTORS
from bvae.evaluation.metrics import ARROWS, TASKS, Metric
from bvae.evaluation.metrics._cost import COSTS
from bvae.evaluation.metrics._cost import __doc__ as COSTS_TEXT
from bvae.evaluation.metrics._distortions import CHANGES
from bvae.evaluation.metrics._distortions import __doc__ as CHANGES_TEXT
from bvae.report.figures import FIGURES
from bvae.report.typeset import to_markdown
from bvae.study.config import load_schema

PLURAL = {"integer": "integers", "text": "names"}
PLURALS = re.compile("|".join(PLURAL))


def keys(schema: dict, prefix: str = "") -> Iterator[tuple[str, dict, bool]]:
    """Each key of an object's schema, dotted, in order: its own schema, and whether it is required.

    An object is listed by its keys, and by itself where it has a default; a list of objects by itself and their keys.
    """
    for name, found in schema.get("properties", {}).items():
        inner = found.get("items", found)
        if inner is found and found.get("type") == "object" and "properties" in found:
            if "x-default" in found:
                yield f"{prefix}{name}", found, False
            yield from keys(found, f"{prefix}{name}.")
            continue
        yield f"{prefix}{name}", found, name in schema.get("required", ())
        if inner is not found:
            yield from keys(inner, f"{prefix}{name}[].")


def values(schema: dict) -> str:
    """What a key takes, in words."""
    if "enum" in schema:
        return ", ".join(f"`{str(value).lower() if value is True else value}`" for value in schema["enum"])
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


def metrics() -> str:
    """A section for each task of evaluation, and for the costs: what each of its numbers means."""
    sections = [(task.title, task.text, task.metrics) for task in TASKS.values()]
    sections.append(("Cost", COSTS_TEXT, COSTS))
    sections.append(("Known changes of real images", CHANGES_TEXT, CHANGES))
    return (
        "\n" + "\n".join(f"### {title}\n\n{dedent(text)}\n\n{definitions(of)}" for title, text, of in sections) + "\n"
    )


def dedent(text: str) -> str:
    """A docstring without the indentation of its lines."""
    return "\n".join(line.strip() for line in text.splitlines())


def definitions(metrics: Iterable[Metric]) -> str:
    """Some metrics as a table; those documented by one name share a line."""
    lines = {}
    for metric in metrics:
        if not metric.any_features:
            name = metric.documented or metric.name
            unit = (metric.unit + ARROWS[metric.better]).strip()
            line = {"name": f"`{name}`", "definition": metric.meaning, "unit": unit, "source": metric.source}
            lines.setdefault(name, line)
    return to_markdown(pd.DataFrame(lines.values()))


def arms() -> str:
    """The arms that a study can name."""
    lines = [{"arm": f"`{name}`", "in tables": arm.label, "what it is": arm.description} for name, arm in ARMS.items()]
    return to_markdown(pd.DataFrame(lines))


def figures() -> str:
    """The figures that a study gets."""
    return to_markdown(pd.DataFrame([{"figure": f"`{kind.name}`", "shows": kind.caption} for kind in FIGURES.values()]))


def features() -> str:
    """The extractors that a study can name."""
    lines = [
        {"features": f"`{name}`", "distance": f"`{found.metric('fd')}`", "over": found.features}
        for name, found in EXTRACTORS.items()
    ]
    return to_markdown(pd.DataFrame(lines))


def keys_of_a_study() -> str:
    """The keys of a study."""
    return table(load_schema())


def keys_of_a_recipe() -> str:
    """The keys of a recipe."""
    return table(load_schema()["properties"]["recipes"]["additionalProperties"])


CALLS = {
    "keys_of_a_study": keys_of_a_study,
    "keys_of_a_recipe": keys_of_a_recipe,
    "arms_of_studies": arms,
    "figures_of_studies": figures,
    "features_of_studies": features,
    "metrics_of_runs": metrics,
}
