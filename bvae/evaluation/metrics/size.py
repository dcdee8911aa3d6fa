"""How large a model is."""

from bvae.evaluation.metrics import Metric, task


@task(
    title="Size",
    version=4,
    order=10,
    metrics=[
        Metric("parameters", "trained numbers, shared ones once", "count", header="Parameters", decimals=0),
        Metric("model_mb", "4 bytes a parameter", "MB of 2²⁰ bytes", header="Model MB", decimals=2),
    ],
)
def size(trained):
    """Counted on the model itself; `parameters_<line>` are its parts."""
    from bvae.networks import parameter_breakdown

    row = {f"parameters_{line}": count for line, count in parameter_breakdown(trained.model).items()}
    row["parameters"] = row.pop("parameters_total")
    return row | {"model_mb": 4 * row["parameters"] / 2**20}
