"""The network behind `fd_classifier`, and its training."""

import logging
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bvae.data import Dataset, to_batch
from bvae.evaluation import protocol
from bvae.system.batching import on_card
from bvae.system.seeds import derive_seed

log = logging.getLogger(__name__)

BATCH = 250


class SmallClassifier(nn.Module):
    """Two strided convolutions and a linear layer of `features` units, whose outputs are the features."""

    def __init__(self, channels: int, size: int, outputs: int, features: int):
        super().__init__()
        self.first = nn.Conv2d(channels, 32, 3, stride=2, padding=1)
        self.second = nn.Conv2d(32, 64, 3, stride=2, padding=1)
        pooled = min(-(-size // 4), 8)
        self.pool = nn.AdaptiveAvgPool2d(pooled)
        self.features = nn.Linear(64 * pooled**2, features)
        self.outputs = nn.Linear(features, outputs)

    def extract(self, images: Tensor) -> Tensor:
        """uint8 (n, c, h, w) -> (n, features)"""
        x = F.relu(self.first(to_batch(images)))
        x = F.relu(self.second(x))
        return self.features(self.pool(x).flatten(1))

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (n, c, h, w) -> logits (n, outputs)"""
        return self.outputs(F.relu(self.extract(images)))


@on_card()
def train_classifier(
    dataset: Dataset, features: int, device: torch.device, *, seed: int = 0
) -> tuple[SmallClassifier, float]:
    """Train the classifier behind `fd_classifier`; returns it and its accuracy on the test images.

    Adam with a one-cycle rate for CLASSIFIER_STEPS batches of 128; every random number derives from the data set and
    the seed.
    """
    identity = (dataset.name, seed) if seed else (dataset.name,)
    attributes = dataset.train_attributes is not None
    train: Any = dataset.train_attributes if attributes else dataset.train_labels
    test: Any = dataset.test_attributes if attributes else dataset.test_labels
    labels = train.float() if attributes else train
    outputs = labels.shape[1] if attributes else len(dataset.classes)
    loss_of = F.binary_cross_entropy_with_logits if attributes else F.cross_entropy
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(*identity, "classifier weights"))
        model = SmallClassifier(dataset.channels, dataset.size, outputs, features).to(device)
    images, labels = dataset.train_images.to(device), labels.to(device)
    generator = torch.Generator().manual_seed(derive_seed(*identity, "classifier order"))
    steps, batch_size = protocol.CLASSIFIER_STEPS, min(128, len(images))
    optimizer = torch.optim.Adam(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps + 1, cycle_momentum=False)
    for _ in range(steps):
        index = torch.randint(len(images), (batch_size,), generator=generator).to(device)
        loss = loss_of(model(images[index]), labels[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.eval()
    with torch.inference_mode():
        logits = torch.cat([model(batch.to(device)).cpu() for batch in dataset.test_images.split(BATCH)])
    right = (logits > 0) == test.bool() if attributes else logits.argmax(1) == test
    accuracy = float(right.float().mean())
    log.info("classifier: accuracy %.4f on %d test images", accuracy, len(dataset.test_images))
    return model, accuracy
