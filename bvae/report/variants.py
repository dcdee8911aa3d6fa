"""What protocol 2 compares arms at: for each task the ways to measure it, their margins, and its claim in words."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product

from bvae.arms import ARMS
from bvae.evaluation.extractors import EXTRACTORS
from bvae.evaluation.metrics import run_metrics
from bvae.study.claims import JUDGED_TASKS, PAPER_NUMBERS, PAPER_PLACE

PIXELS_OF_MARGIN = 28 * 28  # of the images whose ELBO has the margin below; it grows with the number of pixel values
# Margins, the same for all data sets and sizes: of a share of the second arm's mean, or in the metric's unit.
RELATIVE = {"reconstruction": 0.02, "generation": 0.1, "interpolation": 0.1}
ABSOLUTE = {"elbo": 0.25, "classification": 0.005}
PROBES = {
    "probe_sampled_accuracy": "sampled z",
    "probe_unscaled_accuracy": "posterior means",
    "probe_accuracy": "standardised posterior means",
}
SAMPLERS = {"samples": "prior", "mixture_samples": "mixture"}
WAYS = {  # between two images: the path, and the points on it
    "path_interpolations": ("straight", "all of it"),
    "slerp_path_interpolations": ("arc", "all of it"),
    "interpolations": ("straight", "its middle"),
    "slerp_interpolations": ("arc", "its middle"),
}


@dataclass(frozen=True)
class Variant:
    """One way to measure a task: its metric, and what sets it apart from the others."""

    metric: str
    factors: Mapping[str, str] = field(default_factory=dict)


def variants_of(task: str) -> list[Variant]:
    """The ways to measure a task. The first of which a study has numbers is judged, and no other may contradict it."""
    match task:
        case "reconstruction":
            return [Variant("mse_per_pixel")]
        case "elbo":
            return [Variant("elbo")]
        case "classification":
            return [Variant(metric, {"latents": latents}) for metric, latents in PROBES.items()]
        case "generation":
            ways = {what: {"sampler": sampler} for what, sampler in SAMPLERS.items()}
        case "interpolation":
            ways = {what: {"path": path, "points": points} for what, (path, points) in WAYS.items()}
        case _:
            raise ValueError(f"{task}: no task of {JUDGED_TASKS}")
    return [
        Variant(f"{extractor.metric('fd')}_{what}", {"features": extractor.label} | factors)
        for extractor, (what, factors) in product(EXTRACTORS.values(), ways.items())
    ]


def all_variants() -> dict[str, list[Variant]]:
    """The ways to measure each task, and as "other" the other printed metrics that have a better side."""
    found = {task: variants_of(task) for task in JUDGED_TASKS}
    known = {variant.metric for variants in found.values() for variant in variants}
    others = [metric for metric in run_metrics().values() if metric.header and metric.better]
    return found | {"other": [Variant(metric.name) for metric in others if metric.name not in known]}


def margin_of(task: str, second: float, pixels: int) -> float:
    """The margin of a task in its metric's unit.

    `second` is the mean of the arm that is compared with, `pixels` the number of pixel values of an image. Only the
    ELBO, a sum over them, needs it.
    """
    if task in RELATIVE:
        return RELATIVE[task] * abs(second)
    return ABSOLUTE[task] * (pixels / PIXELS_OF_MARGIN if task == "elbo" else 1)


def text_of(claim: dict) -> str:
    """A claim in words."""
    first, second = (ARMS[arm].label for arm in claim["arms"])
    match claim["test"]:
        case "fails_more":
            return f"{first} diverges more often than {second}."
        case "paper_numbers":
            numbers = [f"{100 * value:g} % ({ARMS[arm].label})" for arm, value in PAPER_NUMBERS.items()]
            return f"Linear probes on MNIST at {PAPER_PLACE[1]} latents reach {' and '.join(numbers)}."
        case test:
            what = {"elbo": "in ELBO", "classification": "at classification"}.get(claim["task"], f"at {claim['task']}")
            return f"{first} {test} {second} {what}."
