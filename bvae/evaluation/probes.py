"""Linear probes: what logistic regression finds in features, and the majority class beside it.

They run on the CPU, one core for each fit, also where there is a GPU: docs/performance.md says why.
"""

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bvae.evaluation import protocol
from bvae.evaluation.measures import side_by_side
from bvae.system.seeds import derive_seed

log = logging.getLogger(__name__)

MOST_STEPS = 10_000  # of a solver, a guard: a fit that needs them all warns
TOLERANCE = 1e-5  # of the gradient in `fit_logistic`, whose loss has a curvature of about one on every axis
TYPICAL_CURVATURE = 0.09  # p (1 - p) of one class in ten


class Features(NamedTuple):
    """What one probe sees: features (n, d), and class labels (n,) or 0/1 attributes (n, k) of the same images."""

    train: NDArray
    train_labels: NDArray
    test: NDArray
    test_labels: NDArray
    scale: float | None = None  # that all features are divided by; without one each is standardised


def linear_probe(
    train: NDArray,
    train_labels: NDArray,
    test: NDArray,
    test_labels: NDArray,
    *,
    identity: str,
    strengths: Sequence[float] = (),
    scale: float | None = None,
) -> dict[str, Any]:
    """Logistic regression on features (n, d) with class labels (n,), or 0/1 attributes (n, k), one probe each.

    Without a `scale` each feature is standardised by the training images: a probe then depends neither on the scale
    that an arm gives its latents nor on the steps of a solver that has not converged, as one on latents of very
    different scales has not. With a `scale`, all features are divided by this one number, so that they keep their
    scales relative to one another, and the probe is fitted by `fit_logistic`, which converges on these, too.

    The strength C is the one of `strengths`, ascending and PROBE_STRENGTHS if there are none, with the best accuracy on
    held-out training images (drawn by a seed from `identity`); the probe is then fitted on all training images and
    scored once on the test images.

    Returns the chosen `c` and `accuracy`, in [0, 1]: for attributes the mean of their balanced accuracies, with
    `accuracy_per_attribute`, and `unbalanced_accuracy`, the plain share of right answers over all of them.
    """
    features = Features(train, train_labels, test, test_labels, scale)
    return linear_probes([features], identity=identity, strengths=strengths)[0]


def linear_probes(asked: Sequence[Features], *, identity: str, strengths: Sequence[float] = ()) -> list[dict[str, Any]]:
    """`linear_probe` of each of these; together they take less time, because their fits run side by side."""
    strengths = strengths or protocol.PROBE_STRENGTHS

    def held_out_accuracy(fit: tuple[float, int]) -> float:
        c, (train, labels, _, _, scale) = fit[0], asked[fit[1]]
        order = np.random.default_rng(derive_seed(identity, "probe validation")).permutation(len(train))
        held_out = min(protocol.PROBE_VALIDATION_IMAGES, len(train) // 6)
        validation, search = order[:held_out], order[held_out : held_out + protocol.PROBE_SEARCH_IMAGES]
        predicted = _fit_and_predict(train[search], labels[search], train[validation], c, scale)
        return _scores(predicted, labels[validation])["accuracy"]

    def answers(fit: tuple[float, int]) -> NDArray:
        c, (train, labels, test, _, scale) = fit[0], asked[fit[1]]
        return _fit_and_predict(train, labels, test, c, scale)

    slowest_first = [(c, i) for c in strengths[::-1] for i in range(len(asked))]  # the weakest penalties
    accuracies = dict(zip(slowest_first, side_by_side(held_out_accuracy, slowest_first), strict=True))
    best = []
    for i in range(len(asked)):
        found = {c: accuracies[c, i] for c in strengths}
        best.append((max(found, key=found.__getitem__), i))  # the first, and smallest, of equals
    return [
        {"c": c} | _scores(predicted, asked[i].test_labels)
        for (c, i), predicted in zip(best, side_by_side(answers, best), strict=True)
    ]


def majority_baseline(train_labels: NDArray, test_labels: NDArray) -> dict[str, Any]:
    """What `linear_probe` returns as accuracy when the most frequent training label is the answer to every image."""
    if train_labels.ndim == 2:
        answer = (train_labels.mean(0) > 0.5).astype(test_labels.dtype)
    else:
        answer = np.bincount(train_labels).argmax()
    return _scores(np.broadcast_to(answer, test_labels.shape), test_labels)


def _fit_and_predict(train: NDArray, labels: NDArray, test: NDArray, c: float, scale: float | None) -> NDArray:
    """Labels of `test` by probes of strength c; for attributes the classes are weighed equal."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    if scale is None:
        scaler = StandardScaler().fit(train)
        train, test = scaler.transform(train), scaler.transform(test)
    else:
        train, test = train / scale, test / scale

    def answers(labels: NDArray, *, balanced: bool) -> NDArray:
        if labels.min() == labels.max():  # the others are held out, or no training image differs
            return np.full(len(test), labels[0])
        if scale is None:
            weights = "balanced" if balanced else None
            return LogisticRegression(C=c, max_iter=MOST_STEPS, class_weight=weights).fit(train, labels).predict(test)
        return fit_logistic(train, labels, c, balanced=balanced).predict(test)

    if labels.ndim == 1:
        return answers(labels, balanced=False)
    predicted = np.empty((len(test), labels.shape[1]), labels.dtype)
    for k, column in enumerate(labels.T):
        predicted[:, k] = answers(column, balanced=True)
    return predicted


class Logistic(NamedTuple):
    """A fitted logistic regression, of one score for two classes and of a score for each of more."""

    weights: NDArray  # (d, scores)
    bias: NDArray  # (scores,)
    classes: NDArray  # in ascending order

    def predict(self, features: NDArray) -> NDArray:
        """The most likely classes (n,) of features (n, d)."""
        scores = features @ self.weights + self.bias
        return self.classes[(scores[:, 0] > 0).astype(int) if scores.shape[1] == 1 else scores.argmax(1)]


def fit_logistic(features: NDArray, labels: NDArray, c: float, *, balanced: bool = False) -> Logistic:
    """Logistic regression of labels (n,) on features (n, d), of at least two classes: scikit-learn's, but converged.

    It minimises c · Σ loss + ½ |weights|². With `balanced` the images of each class weigh the same in all. L-BFGS
    runs along the principal axes of the features, each in the unit that gives the loss and the penalty together a
    curvature of about one; on features whose scales differ a hundredfold, scikit-learn's meets its tolerance long
    before the optimum. Features are in float32, after this change of axes. Logs a warning if L-BFGS does not converge.
    """
    from scipy.optimize import minimize

    classes, index = np.unique(labels, return_inverse=True)
    count, scores = len(features), 1 if len(classes) == 2 else len(classes)
    centre, penalty = features.mean(0), 1 / (c * count)
    variances, axes = np.linalg.eigh(np.cov(features, rowvar=False, bias=True).reshape(features.shape[1], -1))
    curvatures = TYPICAL_CURVATURE * variances.clip(0) + penalty
    axes = axes / np.sqrt(curvatures)
    x = ((features - centre) @ axes).astype(np.float32)
    penalties = (penalty / curvatures)[:, None]  # of a squared weight on each axis
    wanted = (index[:, None] == (1 if scores == 1 else np.arange(scores))).astype(np.float32)  # (n, scores)
    sizes = np.bincount(index)
    shares = np.full(count, 1 / count) if not balanced else 1 / (len(classes) * sizes[index])
    shares = shares[:, None].astype(np.float32)

    def loss(flat: NDArray) -> tuple[float, NDArray]:
        weights, bias = flat[:-scores].reshape(-1, scores), flat[-scores:]
        z = x @ weights.astype(np.float32) + bias.astype(np.float32)
        if scores == 1:
            losses = np.logaddexp(0, z) - wanted * z
            surplus = 0.5 * (1 + np.tanh(0.5 * z)) - wanted
        else:
            z -= z.max(1, keepdims=True)
            odds = np.exp(z)
            total = odds.sum(1, keepdims=True)
            losses = np.log(total) - (wanted * z).sum(1, keepdims=True)
            surplus = odds / total - wanted
        surplus *= shares
        value = float((shares * losses).sum(dtype=np.float64)) + 0.5 * float((penalties * weights**2).sum())
        gradient = x.T @ surplus + penalties * weights
        return value, np.concatenate([gradient.ravel(), surplus.sum(0)]).astype(np.float64)

    options = {"maxiter": MOST_STEPS, "maxfun": 2 * MOST_STEPS, "maxcor": 20, "ftol": 1e-8, "gtol": TOLERANCE}
    found = minimize(loss, np.zeros((len(centre) + 1) * scores), jac=True, method="L-BFGS-B", options=options)
    if not found.success and abs(found.jac).max() > 10 * TOLERANCE:
        log.warning("a probe of strength %g has not converged: %s", c, found.message)
    weights = axes @ found.x[:-scores].reshape(-1, scores)
    return Logistic(weights, found.x[-scores:] - centre @ weights, classes)


def _scores(predicted: NDArray, labels: NDArray) -> dict[str, Any]:
    right = predicted == labels
    if labels.ndim == 1:
        return {"accuracy": float(right.mean())}
    balanced = [  # the mean over the values that are there of the share answered right
        float(np.mean([right[labels[:, k] == value, k].mean() for value in np.unique(labels[:, k])]))
        for k in range(labels.shape[1])
    ]
    return {
        "accuracy": float(np.mean(balanced)),
        "accuracy_per_attribute": balanced,
        "unbalanced_accuracy": float(right.mean()),
    }
