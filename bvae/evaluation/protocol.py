"""The numbers that a reader must know to read a metric, in one place. They are part of every table's protocol."""

FRECHET_IMAGES = 10_000  # generated images at most, against as many test images; never compare across n
INCEPTION_FEATURES = 2_048  # of its last pooling
FID_MINIMUM_IMAGES = INCEPTION_FEATURES + 1  # with fewer the covariance is singular
FID_MINIMUM_SIZE = 28  # pixels: Inception sees images resized to 299, which says little about smaller ones
INCEPTION_WEIGHTS = "resources/weights/weights-inception-2015-12-05-6726825d.pth"
INCEPTION_SHA256 = "6726825d"  # the first digits of the weights' SHA-256, as their name gives them
CLASSIFIER_FEATURES = 64  # of the small classifier behind fd_classifier, at most
CLASSIFIER_IMAGES_PER_FEATURE = 10  # so that a covariance of few test images still means something
CLASSIFIER_MINIMUM_FEATURES = 8
CLASSIFIER_STEPS = 2_000
ACTIVE_UNIT_VARIANCE = 1e-2  # of the posterior mean over the test set: Burda et al., arXiv 1509.00519
ELBO_SAMPLES = 2  # of z an image: two, so that the noise of the estimate can be given
SSIM_WINDOW = 11  # pixels; smaller images have no SSIM
KNN_NEIGHBOURS = 10
TRUSTWORTHINESS_NEIGHBOURS = 12
TRUSTWORTHINESS_IMAGES = 2_000  # test images, the first of a fixed draw
KID_SUBSETS = 100
KID_SUBSET_SIZE = 1_000
PRECISION_NEIGHBOURS = 3  # Kynkäänniemi et al., arXiv 1904.06991
MIXTURE_COMPONENTS = 10  # of the Gaussian mixture fitted to training latents, a second sampler: arXiv 1903.12436
MIXTURE_IMAGES = 10_000  # training latents that it is fitted to
PATH_STEPS = 8  # images on the way between two test images
PATH_PAIRS = 100  # of test images, each with such a way
PROBE_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)  # inverse regularisation C, chosen on held-out images
PROBE_VALIDATION_IMAGES = 5_000  # training images held out to choose C, a sixth of them at most
PROBE_SEARCH_IMAGES = 20_000  # training images that the search for C fits on; the final fit takes all
CONTROL_IMAGES = 20_000  # training images of the controls on pixels, where an image has more values than the next line
CONTROL_VALUES = 1_000
CONTROL_STRENGTHS = PROBE_STRENGTHS[:4]  # of the probe on so many values: weaker penalties take longer than all else
FIGURE_IMAGES = 10
TSNE_IMAGES = 2_000
TSNE_PERPLEXITY = 30
COST_ROUNDS = 5  # in each, every arm is timed once: what disturbs the machine meets all of them
COST_SECONDS = 0.05  # of one timing, at least
EXTRACTORS = ("inception", "classifier")  # whose features distances are over


def metric_name(metric: str, extractor: str) -> str:
    """The name of a metric of `features.compare` over an extractor's features: `fid`, `kid`, `fd_classifier`."""
    if extractor == "inception" and metric not in ("precision", "recall"):
        return "fid" if metric == "fd" else metric
    return f"{metric}_{extractor}"
