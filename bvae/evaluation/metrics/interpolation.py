"""The way between two images."""

from bvae.evaluation import protocol
from bvae.evaluation.metrics import Metric, task


@task(
    title="Interpolation",
    version=4,
    order=70,
    metrics=[
        Metric(
            "path_ratio_interpolations",
            f"length of a decoded path of {protocol.PATH_STEPS} images over the straight distance of its ends, mean of"
            f" {protocol.PATH_PAIRS} pairs",
            "≥ 1",
            header="Path ratio",
            decimals=2,
            table=2,
        ),
    ],
)
def interpolation(trained):
    """Of random pairs of test images, along the straight line between their posterior means."""
    import torch

    from bvae.evaluation.draws import interpolation_pairs, lerp
    from bvae.evaluation.measures import path_ratio
    from bvae.evaluation.trained import finite
    from bvae.system.batching import on_card

    means, steps = trained.test_means, protocol.PATH_STEPS
    first, second = interpolation_pairs(trained.dataset.name, len(means), protocol.PATH_PAIRS)
    ways = [lerp(means[first], means[second], step / (steps - 1)) for step in range(steps)]
    with torch.inference_mode(), on_card():
        shown = [trained.model.decode_mean(way.to(trained.device)).flatten(1).cpu() for way in ways]
    ratio = path_ratio(torch.stack(shown, 1))
    if ratio is None:
        reason = "no two of its test images decode to different images" if len(means) > 1 else "1 test image"
        return {"path_ratio_interpolations": None, "empty": {"path_ratio_interpolations": reason}}
    return finite({"path_ratio_interpolations": ratio})
