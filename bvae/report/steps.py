"""What each step of the command line does: it takes a study and a name, and makes files where the workflow has them."""

import argparse
import contextlib
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bvae.errors import InputError
from bvae.evaluation.extractors import EXTRACTORS
from bvae.report.made_from import CLAIMS
from bvae.study import runs as study_runs
from bvae.system.options import IMAGE_OPTIONS, said_of_source

if TYPE_CHECKING:
    from bvae.data import Dataset

# Steps import what they need when they run: `--help` and a bad argument answer at once.


def fetch(args: argparse.Namespace) -> None:
    """Make a data set file."""
    from bvae.data import fetch

    given = {key: getattr(args, key) for key in IMAGE_OPTIONS}
    options = {key: value for key, value in given.items() if value is not None and value is not False}
    fetch.fetch(
        args.source,
        name=args.name,
        output=args.output,
        expected_sha256=args.sha256,
        validation=args.validation,
        options=options,
        show=None if args.log is None else lambda summary: print(summary, file=sys.stderr),  # the log is in a file
    )


def source_of_fetch(args: argparse.Namespace) -> str:
    """What a data set file will say that it was made from, by the arguments of `fetch`."""
    given = {key: getattr(args, key) for key in IMAGE_OPTIONS}
    return said_of_source(args.source, given | {"validation": args.validation or None})


def describe(args: argparse.Namespace) -> None:
    """Print and draw what a data set file holds."""
    from bvae.data import describe, load

    dataset = load(args.file)
    print(describe.describe(dataset))
    if args.picture is not None:
        describe.draw_sheet(dataset, args.picture)


def _load(name: str) -> "Dataset":
    """The data set of a name. Raises InputError for what is no name, and where its file holds another."""
    from bvae.data import load
    from bvae.study.config import is_name

    if not is_name(name):
        raise InputError(f"{name[:100]}: no name of a data set. Wanted lower-case letters, digits, '_' and '-'.")
    path = Path(study_runs.data_path(name))
    if (dataset := load(path)).name != name:
        raise InputError(
            f"{path}: found the data set '{dataset.name}', wanted '{name}'. A data set has the name of its file: delete"
            f" this one and run `snakemake {path}`, or make it again with `--name {name}`."
        )
    return dataset


def _study(path: Path) -> dict:
    """The checked study of a file of config/, or of the one that the workflow has checked and written for its jobs."""
    from bvae.system.files import read_json

    if path.parent == study_runs.CHECKED:
        return read_json(path)
    from bvae.study.config import load_study  # to import it takes a third of a second

    return load_study(path)


def train(args: argparse.Namespace) -> None:
    """Train one run."""
    from bvae.report.model_cards import write_card
    from bvae.runs import train_run

    run, _, folder = study_runs.find_run(_study(args.study), args.name)
    dataset = _load(run.dataset)
    train_run(run, dataset, folder, device=args.device, progress=args.log is None, since=args.started)
    write_card(folder, dataset)


def evaluate(args: argparse.Namespace) -> None:
    """A trained run to its metrics, or of a study that tunes to its ELBO."""
    from bvae.evaluation.evaluate import evaluate_run, validate_run
    from bvae.evaluation.per_image import read_per_image, write_per_image
    from bvae.evaluation.references import load_reference
    from bvae.report.model_cards import write_card
    from bvae.system.files import read_json, sha256_of_file, write_json
    from bvae.system.processors import pick_device

    study = _study(args.study)
    run, recipe, results = study_runs.find_run(study, args.name, results=True)
    dataset, device = _load(run.dataset), pick_device(args.device)
    if study["tuning"]:
        write_json(results, validate_run(results.parent, dataset, device=device))
        return
    references = [load_reference(Path(study_runs.reference_path(run.dataset, name))) for name in study["features"]]
    importance, known, known_images = study["recipes"][recipe]["importance"], None, {}
    of_images, protocol = Path(study_runs.per_image_path(str(results))), study_runs.protocol_of(study)
    with contextlib.suppress(InputError):  # none yet, or damaged ones: all is computed
        known = read_json(results)
        if protocol == 2 and of_images.exists() and sha256_of_file(of_images) == known.get("per_image_sha256"):
            known_images = read_per_image(of_images).values
    row, images = evaluate_run(
        results.parent,
        dataset,
        references,
        importance=importance,
        device=device,
        known=known,
        known_images=known_images,
        protocol=protocol,
    )
    if protocol == 2:
        row["per_image_sha256"] = write_per_image(of_images, images, row)
    write_json(results, row)
    write_card(results.parent, dataset, row)


def reference(args: argparse.Namespace) -> None:
    """The real side of a distance; over the network that recorded runs of the data set saw, if there are any."""
    from bvae.evaluation.references import load_reference, make_reference, save_reference
    from bvae.system.processors import pick_device

    dataset, extractor = _of_features(args.name)
    record = Path(study_runs.recorded_reference(dataset, extractor))
    recorded = load_reference(record) if record.exists() else None
    reference = make_reference(_load(dataset), extractor, pick_device(args.device), recorded)
    save_reference(reference, Path(study_runs.reference_path(dataset, extractor)))


def _of_features(name: str) -> tuple[str, str]:
    """The data set and the extractor of a name of both."""
    dataset, _, extractor = name.rpartition("-")
    if not dataset or extractor not in EXTRACTORS:
        raise InputError(f"{name}: wanted <data set>-<one of {', '.join(EXTRACTORS)}>, for example digits-classifier")
    return dataset, extractor


def distortions(args: argparse.Namespace) -> None:
    """What known changes of real images cost in Fréchet distance."""
    from bvae.evaluation.distortions import measure_distortions
    from bvae.evaluation.references import load_reference
    from bvae.system.files import write_json
    from bvae.system.processors import pick_device

    dataset, extractor = _of_features(args.name)
    data, reference = _load(dataset), load_reference(Path(study_runs.reference_path(dataset, extractor)))
    row = measure_distortions(data, reference, pick_device(args.device))
    write_json(study_runs.distances_path(dataset, extractor), row)


def controls(args: argparse.Namespace) -> None:
    """What a data set gives without an autoencoder."""
    from bvae.evaluation.controls import evaluate_controls
    from bvae.system.files import write_json

    dataset = _load(args.name)
    write_json(study_runs.controls_path(args.name), evaluate_controls(dataset))


def pca(args: argparse.Namespace) -> None:
    """What principal components of its pixels give."""
    from bvae.evaluation.controls import evaluate_pca
    from bvae.system.files import write_json

    found = re.fullmatch(r"(.+)-pca([1-9]\d{0,4})", args.name)
    if found is None:
        raise InputError(f"{args.name}: wanted <data set>-pca<components>, for example digits-pca8")
    dataset = _load(found[1])
    write_json(study_runs.pca_path(found[1], int(found[2])), evaluate_pca(dataset, int(found[2])))


def untrained(args: argparse.Namespace) -> None:
    """The probe on an encoder before training."""
    from bvae.evaluation.controls import evaluate_untrained
    from bvae.system.files import write_json
    from bvae.system.processors import pick_device

    run, _, output = study_runs.find_group(_study(args.study), args.name, "untrained")
    write_json(output, evaluate_untrained(run, _load(run.dataset), pick_device(args.device)))


def cost(args: argparse.Namespace) -> None:
    """What each arm costs."""
    from bvae.evaluation.cost import measure_costs
    from bvae.system.files import read_json, write_json
    from bvae.system.processors import pick_device

    study = _study(args.study)
    run, _, output = study_runs.find_group(study, args.name, "cost")
    arms = next({*group["arms"]} for group in study_runs.group_paths(study) if Path(group["cost"]) == output)
    with contextlib.suppress(InputError):  # another study may have asked for others: it keeps them
        arms |= read_json(output).get("arms", {}).keys()
    write_json(output, measure_costs(run, _load(run.dataset), pick_device(args.device), arms))


def weights(args: argparse.Namespace) -> None:
    """Fetch the published weights of an extractor."""
    if weights := EXTRACTORS[args.extractor].weights:  # of others the parser takes no name
        weights.fetch(weights.path)


def _study_that(path: Path, *, tunes: bool) -> dict:
    """A study that tunes, or one that does not. Raises InputError for one of the other kind."""
    study = _study(path)
    if study["tuning"] and not tunes:
        raise InputError(
            f"{path}: study '{study['study']}' has `tuning: true`, so it chooses settings on held-out images and has no"
            " tables, verdicts or figures. Its table is made by `python -m bvae tuning`."
        )
    if tunes and not study["tuning"]:
        raise InputError(
            f"{path}: study '{study['study']}' does not have `tuning: true`: its ELBOs are of test images, and settings"
            " are not chosen on these. Give a study that tunes."
        )
    return study


def table(args: argparse.Namespace) -> None:
    """The tables of a study, all or those named."""
    from bvae.report.tables import write_tables

    study = _study_that(args.study, tunes=False)
    write_tables(study, study_runs.study_folder(study) / "tables", names=args.names)


def claims(args: argparse.Namespace) -> None:
    """The verdicts of a study, by its protocol."""
    from bvae.report.claims import write_claims
    from bvae.report.judged_tables import write_judgement

    study = _study_that(args.study, tunes=False)
    folder = study_runs.study_folder(study)
    if study_runs.protocol_of(study) == 1:
        write_claims(study, args.claims or Path(CLAIMS), folder)
        return
    if args.claims is not None:
        raise InputError(
            f"--claims {args.claims}: study '{study['study']}' is of protocol 2, which judges the claims that the study"
            " itself registers. Leave out --claims."
        )
    write_judgement(study, folder)


def tuning(args: argparse.Namespace) -> None:
    """The table and picture of a study that tunes."""
    from bvae.report.tuning import write_tuning

    study = _study_that(args.study, tunes=True)
    write_tuning(study, study_runs.study_folder(study))


def rates(args: argparse.Namespace) -> None:
    """Print the learning rates that a study that tunes chooses; InputError when a grid has to be extended."""
    from bvae.report.rates import report

    study = _study(args.study)
    text, requests = report(study)
    print(text)
    if requests:
        raise InputError(f"{study['study']}: the grid of learning rates must be extended: {'; '.join(requests)}.")


def figure(args: argparse.Namespace) -> None:
    """Figures of a study."""
    from bvae.report.drawing import draw

    draw(args.names, _study(args.study))


def publish(args: argparse.Namespace) -> None:
    """Copy a finished study's results for citation."""
    from bvae.report import publication

    study = _study(args.study)
    publication.publish(study, Path(study_runs.publication(study)), claims=str(args.claims or CLAIMS))


def rebuild(args: argparse.Namespace) -> None:
    """Make tables, verdicts and numeric figures of a published study from its data."""
    from bvae.report.published_data import rebuild

    made = rebuild(args.published, args.output)
    print(f"{args.output}: {len(made)} files, made from {args.published} alone")


def record(args: argparse.Namespace) -> None:
    """Copy what git keeps of a study's runs."""
    from bvae.report.run_records import write_records

    new, known = write_records(_study(args.study))
    print(f"{study_runs.RECORDS}: {new} new records; {known} runs here have one")


def verify(args: argparse.Namespace) -> None:
    """Compare runs made here with published ones; InputError when one differs."""
    from bvae.report import publication

    lines, same = publication.verify(args.published)
    print("\n".join(lines))
    if not same:
        raise InputError(
            f"{args.published}: runs on this machine differ from the published ones. Another version, processor, number"
            " of threads or precision changes only the last digits. If more differs, one of the two is wrong."
        )


def crate(args: argparse.Namespace) -> None:
    """Describe a published study as an RO-Crate."""
    from bvae.report.ro_crate import write_crate

    write_crate(args.published)


def site(args: argparse.Namespace) -> None:
    """Write the results page of all published studies, and print its path."""
    from bvae.report.publication import refuse_changed
    from bvae.report.site.page import write_site

    for manifest in sorted(args.published.glob("*/manifest.json")):
        refuse_changed(manifest.parent)
    write_site(args.published, args.output)
    print(args.output)


def status(args: argparse.Namespace) -> None:
    """Print how far a study is."""
    from bvae.report.status import show

    show(args.study, args.watch)


def summary(args: argparse.Namespace) -> None:
    """Print what a study has found so far."""
    from bvae.report.summary import summarise_study

    print(summarise_study(_study(args.study), args.study))


def runs(args: argparse.Namespace) -> None:
    """List, or remove, the runs that no study uses."""
    from bvae.study.unused import remove_unused

    remove_unused(args.config, remove=args.remove)


def tensorboard(args: argparse.Namespace) -> None:
    """The training histories of a study as TensorBoard events."""
    from bvae.report.tensorboard import write_events

    write_events(args.study, args.output, args.watch)
