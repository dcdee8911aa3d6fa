"""Of one training step and of encoding and decoding, all arms in turn in one process: `bvae/evaluation/cost.py`."""

from bvae.evaluation import protocol
from bvae.evaluation.metrics import Metric

MB = "MB of 2²⁰ bytes"
SPEED = f"median of {protocol.COST_ROUNDS} timings"
COSTS = (
    Metric("parameters_total", "trained numbers, shared ones once", "count", header="Parameters", decimals=0),
    Metric("cut", "1 - parameters / parameters of the matched VAE", "share", header="Cut %", decimals=1, factor=100),
    Metric(
        "head_share",
        "share of the log-variance head, which cannot be tied",
        "share",
        header="Head share %",
        decimals=1,
        factor=100,
    ),
    Metric("model_mb", "4 bytes a parameter", MB, header="Model MB", decimals=2),
    Metric(
        "training_state_mb",
        "parameters, gradients and both moments of AdamW, 4 bytes each",
        MB,
        header="Training state MB",
        decimals=2,
    ),
    Metric(
        "peak_training_mb",
        "parameters, moments, and the most that a step holds above them (gradients, activations)",
        MB,
        header="Peak training MB",
        decimals=1,
    ),
    *(
        Metric(
            f"macs_{what}",
            "multiply-accumulates of an image: tying does not save any",
            "count",
            header=f"{what.title()} MMACs",
            decimals=3,
            factor=1e-6,
        )
        for what in ("encode", "decode")
    ),
    *(
        Metric(f"images_per_second_{what}", SPEED, "images a second", header=f"{what.title()} images/s", decimals=0)
        for what in ("training", "encoding", "decoding")
    ),
)
