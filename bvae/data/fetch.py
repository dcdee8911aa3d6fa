"""Make `resources/data/<name>.safetensors` from the files as they are published.

published_files.py finds the files: in a mirror, in `resources/downloads/` or on the internet.
sources.py reads them. The check that counts is the SHA-256 of the decoded arrays: files packed anew pass it.
"""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from bvae.data import dataset as data
from bvae.data.checks import is_copied, n_repeated
from bvae.data.sources import SOURCES, TAKE_IMAGE_OPTIONS, Request, known
from bvae.data.summary import summarize
from bvae.errors import InputError
from bvae.system.options import as_flag, said_of_source
from bvae.system.seeds import derive_seed

log = logging.getLogger(__name__)


def fetch(
    source: str,
    *,
    name: str,
    output: str | Path,
    expected_sha256: str | None = None,
    validation: int = 0,
    options: Mapping[str, Any] | None = None,
    show: Callable[[str], None] | None = None,
) -> data.Dataset:
    """Make the data set file `output` from `source`, one of SOURCES, whole or not at all.

    With `validation`, so many training images become the test images and the source's own are left out (`hold_out`).
    `options` are those of IMAGE_OPTIONS that were given; folders and zips of images take them.
    A summary of a few lines, what was read and what was not, goes to the log and to `show`.

    Raises InputError, with nothing written, for an unknown source, an option that it does not take, files that cannot
    be found or are damaged, pixels on a wrong scale, test images that are all training images, arrays whose SHA-256
    (bvae.data.arrays_sha256) is not `expected_sha256`, and an output that cannot be written.
    """
    options, output = dict(options or {}), Path(output)
    pattern = known(source)
    if pattern is None:
        raise InputError(f"{name}: found the unknown source {source!r}, wanted one of {', '.join(SOURCES)}.")
    read = SOURCES[pattern]
    if options and read not in TAKE_IMAGE_OPTIONS:
        flags = " and ".join(map(as_flag, options))
        raise InputError(
            f"{name}: found {flags}, which only folder:PATH and zip:NAME.zip take. {source} does not. Leave it out."
        )
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        request = Request(source, name, output.parent, options)
        arrays = read(request)
        if validation:
            arrays = hold_out(arrays, validation, name=name)
        said = said_of_source(source, options | {"validation": validation or None})
        dataset = data.make(name=name, source=said, **arrays)
        if expected_sha256 not in (None, dataset.sha256):
            raise InputError(
                f"{output}: found arrays of SHA-256 {dataset.sha256} in {source}, wanted {expected_sha256}. Nothing was"
                " written. The log names the files that were read: delete those that are not the published ones. If the"
                " data are meant to differ, write a rule for them in workflow/rules/datasets/."
            )
        repeated = n_repeated(dataset.train_images, dataset.test_images)
        given_test = not (validation or request.reading.drawn)
        all_repeated = given_test and 0 < repeated == len(dataset.test_images)
        if all_repeated and is_copied(dataset.train_images, dataset.test_images):
            data.refuse_unsound(dataset, output)  # says more of images that are all black, say
            raise InputError(
                f"{output}: found {repeated:,} test images in {source}, every one a training image too, byte for byte,"
                " wanted other images. Nothing was written. Choose test images that are not training images."
            )
        data.save(dataset, output)
    except OSError as error:
        remedy = "Nothing was written. Check the free space and the permissions of both."
        raise InputError(f"{name}: cannot read {source} or write {output} ({error}). {remedy}") from None
    log.info("%s: SHA-256 of the arrays %s", output, dataset.sha256)
    summary = summarize(dataset, request.reading, repeated=repeated)
    log.info("%s", summary)
    if show is not None:
        show(summary)
    return dataset


def hold_out(arrays: dict[str, Any], count: int, *, name: str) -> dict[str, Any]:
    """Put `count` training images, a fixed draw of the name's, where the test images were; these are left out.

    What is chosen on them (a learning rate, say) has then never met the images that results are reported on.
    Raises InputError unless at least one training image is left.
    """
    images = len(arrays["train_images"])
    if not 0 < count < images:
        raise InputError(
            f"{name}: found --validation {count}, wanted 1 to {images - 1} of its {images} training images."
        )
    generator = torch.Generator().manual_seed(derive_seed(name, "validation images"))
    order = torch.randperm(images, generator=generator)
    held, kept = order[:count].sort().values, order[count:].sort().values
    train = {key: value for key, value in arrays.items() if key.startswith("train_")}
    parts = {key: value[kept] for key, value in train.items()}
    parts |= {key.replace("train_", "test_"): value[held] for key, value in train.items()}
    return arrays | parts
