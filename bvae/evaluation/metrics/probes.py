"""What linear probes find in the latents as a decoder sees them, and in those that are not in use."""

from bvae.evaluation import protocol
from bvae.evaluation.metrics import Metric, task

HOW = "features divided by one number, the root of their mean variance over the training images"
FEATURES = {  # of a probe, by its name: its header and what it sees
    "sampled": ("Probe z %", "one sample z ~ q(z\\|x) of each training and test image"),
    "unscaled": ("Probe unscaled %", "posterior means as they are, not standardised"),
}
INACTIVE = {  # of a control: the header, and the probe whose control it is
    "probe_sampled_inactive_accuracy": ("Inactive z %", "probe_sampled_accuracy"),
    "probe_unscaled_inactive_accuracy": (None, "probe_unscaled_accuracy"),
    "probe_inactive_accuracy": ("Inactive %", "probe_accuracy"),
}


def _metrics():
    for name, (header, what) in FEATURES.items():
        shared = {"unit": "share", "better": "higher", "decimals": 2, "factor": 100}
        meaning = f"as `probe_accuracy`, on {what}; {HOW}"
        yield Metric(f"probe_{name}_accuracy", meaning, source="ours", header=header, **shared)
        meaning = f"as `probe_unbalanced_accuracy`, of `probe_{name}_accuracy`"
        yield Metric(f"probe_{name}_unbalanced_accuracy", meaning, optional=True, **shared)
    for name, (header, probe) in INACTIVE.items():
        yield Metric(
            name,
            f"as `{probe}`, on the latents that `active_units` does not count, of"
            f" {protocol.PROBE_CONTROL_IMAGES:,} training images at most; none where every latent is active",
            "share",
            source="ours",
            header=header,
            decimals=2,
            factor=100,
        )


@task(title="Probes of samples and of inactive latents", version=1, order=61, protocol=2, metrics=[*_metrics()])
def probes(trained):
    """Standardising posterior means enlarges those of latents that carry next to nothing.

    A probe on samples of z sees what a decoder sees. The probes on inactive latents say how much of an accuracy comes
    from latents that the model does not use.
    """
    from bvae.evaluation.trained import latents_of_probes, probe_inactive, probe_unstandardised

    dataset = trained.dataset
    latents = latents_of_probes(dataset.name, trained.run.seed, trained.train_posteriors, trained.test_posteriors)
    row, empty = probe_unstandardised(dataset, latents)
    controls, also_empty = probe_inactive(dataset, latents)
    return row | controls | {"empty": empty | also_empty}
