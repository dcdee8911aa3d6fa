"""What a classifier finds in the latents."""

from bvae.evaluation import protocol
from bvae.evaluation.metrics import Metric, task


@task(
    title="Classification",
    version=4,
    order=60,
    metrics=[
        Metric(
            "probe_accuracy",
            f"logistic regression on standardised means, C of {len(protocol.PROBE_STRENGTHS)} chosen on held-out"
            " training images, fitted on all, scored once; of attributes the mean balanced accuracy",
            "share",
            "higher",
            "scikit-learn",
            header="Probe %",
            decimals=2,
            factor=100,
        ),
        Metric(
            "probe_unbalanced_accuracy",
            "of attributes the plain share of right answers",
            "share",
            "higher",
            optional=True,
            decimals=2,
            factor=100,
        ),
        Metric(
            "knn_accuracy",
            f"the {protocol.KNN_NEIGHBOURS} nearest training means, Euclidean",
            "share",
            "higher",
            header="k-NN %",
            decimals=2,
            factor=100,
        ),
        Metric(
            "trustworthiness",
            f"how far neighbours among means are neighbours among pixels, {protocol.TRUSTWORTHINESS_NEIGHBOURS}"
            f" neighbours, {protocol.TRUSTWORTHINESS_IMAGES:,} test images",
            "≤ 1",
            "higher",
            "Venna and Kaski, ICANN 2001",
            decimals=4,
        ),
    ],
)
def classification(trained):
    """On posterior means; the networks are not trained further."""
    from bvae.evaluation.trained import classify

    row, empty = classify(trained.dataset, trained.train_means, trained.test_means, trained.device)
    return row | {"empty": empty}
