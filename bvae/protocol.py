"""The numbers that a reader must know to read a metric, in one place. They are part of every table's protocol."""

FRECHET_IMAGES = 10_000  # generated images at most, against as many test images; never compare across n
FID_MINIMUM_IMAGES = 2_049  # 2,048 features: with fewer images the covariance is singular
FID_MINIMUM_SIZE = 28  # pixels: Inception sees images resized to 299, which says little about smaller ones
INCEPTION_WEIGHTS = "resources/weights/weights-inception-2015-12-05-6726825d.pth"
INCEPTION_SHA256 = "6726825d"  # the first digits of the weights' SHA-256, as their name gives them
CLASSIFIER_FEATURES = 64  # of the small classifier behind fd_classifier, at most
CLASSIFIER_IMAGES_PER_FEATURE = 10  # so that a covariance of few test images still means something
CLASSIFIER_MINIMUM_FEATURES = 8
CLASSIFIER_STEPS = 2_000
ACTIVE_UNIT_VARIANCE = 1e-2  # of the posterior mean over the test set: Burda et al., arXiv 1509.00519
PROBE_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)  # inverse regularisation C, chosen on held-out images
PROBE_VALIDATION_IMAGES = 5_000  # training images held out to choose C, a sixth of them at most
PROBE_SEARCH_IMAGES = 20_000  # training images that the search for C fits on; the final fit takes all
FIGURE_IMAGES = 10
TSNE_IMAGES = 2_000
TSNE_PERPLEXITY = 30
