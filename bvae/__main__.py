# PYTHON_ARGCOMPLETE_OK
"""The command line: `python -m bvae STEP`, one step of the benchmark at a time, without Snakemake."""

import argparse
import io
import json
import logging
import os
import signal
import sys
from pathlib import Path

import argcomplete

import bvae
from bvae.arms import ARMS
from bvae.errors import InputError
from bvae.evaluation.extractors import EXTRACTORS
from bvae.evaluation.protocol import INCEPTION_WEIGHTS
from bvae.report.figures import FIGURES
from bvae.system import devices
from bvae.system.allocator import keep_freed_memory

# Steps import what they need when they run: `--help` and a bad argument answer at once.

FETCH_SOURCES = """\
sources, each as it is given:
  sklearn:digits            torchvision:MNIST         torchvision:FashionMNIST
  torchvision:KMNIST        torchvision:EMNIST        torchvision:SVHN
  torchvision:Omniglot      mnist_binarized           cifar10
  celeba64
and your own images and arrays:
  folder:~/birds --size 64 --mode rgb     a folder <class>/<image>, or {train,test}/<class>/<image>, or <image>
  zip:birds.zip --crop 140 --size 64      a zip of such a folder, in BVAE_MIRROR or in resources/downloads/
  folder:~/birds --labels labels.csv      with classes by a file of rows name,label
  npz:birds.npz                           arrays train_images, test_images [, train_labels, test_labels], uint8
  idx:~/birds                             train-images-idx3-ubyte, ... as MNIST is published, plain or .gz

"""
RUN = "results/runs/mlp-quick-0123abcd/digits/bvae-z16-seed0"
DIGITS = "resources/data/digits.safetensors"
ONE_RUN = f'--data {DIGITS} --recipe mlp-quick --settings "$SETTINGS" --latent-dim 16 --seed 0'
EXAMPLES = {  # $SETTINGS, $IMPORTANCE and $STUDY are JSON: `snakemake -np` shows every command with its own
    "fetch": "folder:~/birds --size 64 --name birds --output resources/data/birds.safetensors",
    "data describe": f"{DIGITS} --picture digits.png",
    "train": f"{ONE_RUN} --arm bvae --output {RUN}",
    "reference": f"--data {DIGITS} --extractor classifier --output results/references/digits-classifier.safetensors",
    "evaluate": f"{RUN} --data {DIGITS} --reference results/references/digits-classifier.safetensors"
    ' --importance "$IMPORTANCE" --output ' + f"{RUN}/metrics-0123abcd.json",
    "validate": "results/runs/mlp-40/mnist_validation/bvae-z128-seed0"
    " --data resources/data/mnist_validation.safetensors",
    "controls": f"--data {DIGITS} --output results/controls/digits.json",
    "pca": f"--data {DIGITS} --latent-dim 16 --output results/controls/digits-pca16.json",
    "untrained": f"{ONE_RUN} --output results/controls/mlp-quick/digits-z16-seed0.json",
    "cost": f"{ONE_RUN} --output results/costs/mlp-quick/digits-z16/cost.json",
    "weights": f"inception --output {INCEPTION_WEIGHTS}",
    "table": '--study "$STUDY" --output results/studies/quick/tables',
    "claims": '--study "$STUDY" --claims config/claims.yaml --output results/studies/quick',
    "tuning": '--study "$STUDY" --output results/studies/tuning_mlp',
    "figure": f'reconstructions samples --study "$STUDY" --data {DIGITS} --recipe mlp-quick --latent-dim 16'
    " --output results/studies/quick/figures",
    "publish": '--study "$STUDY" --output results/published/quick-1',
    "verify": "results/published/mnist_mlp-1",
    "crate": "results/published/mnist_mlp-1",
    "status": "config/quick.yaml --watch",
    "runs": "--remove",
    "tensorboard": "config/quick.yaml --output results/tensorboard/quick",
}


def _fetch(args: argparse.Namespace) -> None:
    from bvae.data.fetch import fetch
    from bvae.data.sources import IMAGE_OPTIONS

    given = {key: getattr(args, key) for key in IMAGE_OPTIONS}
    options = {key: value for key, value in given.items() if value is not None and value is not False}
    fetch(
        args.source,
        name=args.name,
        output=args.output,
        expected_sha256=args.sha256,
        validation=args.validation,
        options=options,
    )


def _describe(args: argparse.Namespace) -> None:
    from bvae.data import load
    from bvae.data.describe import describe, draw_sheet

    dataset = load(args.file)
    print(describe(dataset))
    if args.picture is not None:
        draw_sheet(dataset, args.picture)


def _train(args: argparse.Namespace) -> None:
    from bvae.data import load
    from bvae.report.model_cards import write_card
    from bvae.runs import Run, train_run

    dataset = load(args.data)
    settings = _json_object(args.settings, "--settings")
    run = Run(args.recipe, settings, dataset.name, args.arm, args.latent_dim, args.seed)
    train_run(run, dataset, args.output, device=args.device, progress=args.log is None)
    write_card(args.output, dataset)


def _reference(args: argparse.Namespace) -> None:
    from bvae.data import load
    from bvae.evaluation.references import make_reference, save_reference
    from bvae.training import pick_device

    reference = make_reference(load(args.data), args.extractor, weights=args.weights, device=pick_device(args.device))
    save_reference(reference, args.output)


def _evaluate(args: argparse.Namespace) -> None:
    from bvae.data import load
    from bvae.evaluation.evaluate import evaluate_run
    from bvae.evaluation.references import load_reference
    from bvae.report.model_cards import write_card
    from bvae.system.files import write_json
    from bvae.training import pick_device

    references = [load_reference(path) for path in args.reference]
    device, dataset = pick_device(args.device), load(args.data)
    importance = _json_object(args.importance, "--importance")
    row = evaluate_run(args.run_folder, dataset, references, importance=importance, weights=args.weights, device=device)
    write_json(args.output, row)
    write_card(args.run_folder, dataset, row)


def _validate(args: argparse.Namespace) -> None:
    from bvae.data import load
    from bvae.evaluation.evaluate import validate_run
    from bvae.system.files import write_json
    from bvae.training import pick_device

    row = validate_run(args.run_folder, load(args.data), device=pick_device(args.device))
    write_json(args.run_folder / "validation.json", row)


def _controls(args: argparse.Namespace) -> None:
    from bvae.data import load
    from bvae.evaluation.controls import evaluate_controls
    from bvae.system.files import write_json

    write_json(args.output, evaluate_controls(load(args.data)))


def _pca(args: argparse.Namespace) -> None:
    from bvae.data import load
    from bvae.evaluation.controls import evaluate_pca
    from bvae.system.files import write_json

    write_json(args.output, evaluate_pca(load(args.data), args.latent_dim))


def _untrained(args: argparse.Namespace) -> None:
    from bvae.data import load
    from bvae.evaluation.controls import evaluate_untrained
    from bvae.runs import Run
    from bvae.system.files import write_json
    from bvae.training import pick_device

    dataset = load(args.data)
    run = Run(args.recipe, _json_object(args.settings, "--settings"), dataset.name, "bvae", args.latent_dim, args.seed)
    write_json(args.output, evaluate_untrained(run, dataset, pick_device(args.device)))


def _cost(args: argparse.Namespace) -> None:
    from bvae.data import load
    from bvae.evaluation.cost import measure_costs
    from bvae.runs import Run
    from bvae.system.files import write_json
    from bvae.training import pick_device

    dataset = load(args.data)
    run = Run(args.recipe, _json_object(args.settings, "--settings"), dataset.name, "bvae", args.latent_dim, args.seed)
    write_json(args.output, measure_costs(run, dataset, pick_device(args.device)))


def _weights(args: argparse.Namespace) -> None:
    EXTRACTORS[args.extractor].fetch_weights(args.output)


def _table(args: argparse.Namespace) -> None:
    from bvae.report.tables import write_tables

    write_tables(_json_object(args.study, "--study"), args.output)


def _claims(args: argparse.Namespace) -> None:
    from bvae.report.claims import write_claims

    write_claims(_json_object(args.study, "--study"), args.claims, args.output)


def _tuning(args: argparse.Namespace) -> None:
    from bvae.report.tuning import write_tuning

    write_tuning(_json_object(args.study, "--study"), args.output)


def _figure(args: argparse.Namespace) -> None:
    from bvae.report.figures import draw

    study = _json_object(args.study, "--study")
    draw(args.kinds, study, args.recipe, args.data, args.latent_dim, args.output)


def _publish(args: argparse.Namespace) -> None:
    from bvae.report.publication import publish

    publish(_json_object(args.study, "--study"), args.output)


def _verify(args: argparse.Namespace) -> None:
    from bvae.report.publication import verify

    lines, same = verify(args.published)
    print("\n".join(lines))
    if not same:
        raise InputError(
            f"{args.published}: runs here differ from those published. Other versions, another processor, number of"
            " threads or precision change the last digits; larger differences are a fault of one side."
        )


def _crate(args: argparse.Namespace) -> None:
    from bvae.report.ro_crate import write_crate

    write_crate(args.published)


def _status(args: argparse.Namespace) -> None:
    from bvae.study.status import show

    show(args.config, args.watch)


def _runs(args: argparse.Namespace) -> None:
    from bvae.study.unused import remove_unused

    remove_unused(args.config, remove=args.remove)


def _tensorboard(args: argparse.Namespace) -> None:
    from bvae.report.tensorboard import write_events

    write_events(args.config, args.output, args.watch)


def _json_object(text: str, option: str) -> dict:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{option}: not JSON ({error}): {text[:80]}") from None
    if not isinstance(value, dict):
        raise InputError(f"{option}: wanted a JSON object, got {text[:80]}")
    return value


def build_parser() -> argparse.ArgumentParser:
    """The parser of all steps."""
    parser = argparse.ArgumentParser(prog="python -m bvae", description=bvae.__doc__.partition("\n")[0])
    parser.add_argument("--version", action="version", version=f"bvae {bvae.__version__}")
    parser.add_argument("--verbose", action="store_true", help="show a traceback for every error")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--log", type=Path, help="write the log here, and one short line of it on the terminal")
    steps = parser.add_subparsers(dest="step", required=True, metavar="STEP")

    def add(name: str, parents: list[argparse.ArgumentParser], help: str, more: str = "") -> argparse.ArgumentParser:
        *above, last = name.split()
        return (looks if above else steps).add_parser(
            last,
            parents=parents,
            help=help,
            description=f"{help[0].upper()}{help[1:]}.",
            epilog=f"{more}example:\n  python -m bvae {name} {EXAMPLES[name]}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    step = add("fetch", [common], "make a data set file", FETCH_SOURCES)
    step.add_argument("source", help="for example torchvision:MNIST; all of them are below")
    step.add_argument("--name", required=True, help="the data set's name")
    step.add_argument("--output", type=Path, required=True, help="resources/data/<name>.safetensors")
    step.add_argument("--sha256", help="expected hash of the decoded arrays; the log gives the hash")
    step.add_argument(
        "--validation",
        type=int,
        default=0,
        help="so many training images, a fixed draw, in place of the test images, to choose settings on",
    )
    images = step.add_argument_group("taken by the sources folder and zip")
    images.add_argument("--mode", choices=("grey", "rgb"), help="convert every image; without it they must be alike")
    images.add_argument("--crop", type=int, help="keep the central square of so many pixels")
    images.add_argument("--size", type=int, help="then resize to so many pixels, antialiased")
    images.add_argument("--test-fraction", type=float, help="of the images, where no folders train and test say")
    images.add_argument("--labels", type=Path, help="a CSV file of rows name,label, where folders are no classes")
    images.add_argument("--skip-corrupt", action="store_true", help="leave out images that cannot be decoded")
    step.set_defaults(run=_fetch)

    step = steps.add_parser("data", help="look into a data set file")
    looks = step.add_subparsers(dest="look", required=True, metavar="LOOK")
    step = add("data describe", [common], "its counts, classes, pixels, source, licence and hash")
    step.add_argument("file", type=Path, help="resources/data/<name>.safetensors")
    step.add_argument("--picture", type=Path, help="draw its first images, a row a class, as a PNG")
    step.set_defaults(run=_describe)

    data = argparse.ArgumentParser(add_help=False, parents=[common])
    data.add_argument("--data", type=Path, required=True, help="the data set file")
    device = argparse.ArgumentParser(add_help=False, parents=[data])
    device.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    weights = argparse.ArgumentParser(add_help=False, parents=[device])
    inception = Path(INCEPTION_WEIGHTS)
    weights.add_argument("--weights", type=Path, nargs="?", default=inception, const=inception, help="Inception's")
    recipe = argparse.ArgumentParser(add_help=False, parents=[device])
    recipe.add_argument("--recipe", required=True, help="name of the recipe")
    recipe.add_argument("--settings", required=True, help="the recipe as JSON, defaults filled in")
    recipe.add_argument("--latent-dim", type=int, required=True)
    recipe.add_argument("--seed", type=int, required=True)

    step = add("train", [recipe], "train one run")
    step.add_argument("--arm", required=True, choices=ARMS)
    step.add_argument("--output", type=Path, required=True, help="folder for model.safetensors and history.csv")
    step.set_defaults(run=_train)

    step = add("reference", [weights], "the real side of a Fréchet distance")
    step.add_argument("--extractor", required=True, choices=EXTRACTORS)
    step.add_argument("--output", type=Path, required=True)
    step.set_defaults(run=_reference)

    step = add("evaluate", [weights], "a trained run to metrics.json")
    step.add_argument("run_folder", type=Path, help="folder of the run")
    step.add_argument("--reference", type=Path, nargs="*", default=[], help="files made by the step reference")
    step.add_argument("--importance", required=True, help="samples and images of the NLL sweep as JSON, as a recipe's")
    step.add_argument("--output", type=Path, required=True, help="the metrics: a JSON file in the folder of the run")
    step.set_defaults(run=_evaluate)

    step = add("validate", [device], "a trained run to validation.json: its ELBO alone")
    step.add_argument("run_folder", type=Path, help="folder of the run, trained on a data set with --validation")
    step.set_defaults(run=_validate)

    step = add("controls", [data], "what a data set gives without an autoencoder")
    step.add_argument("--output", type=Path, required=True)
    step.set_defaults(run=_controls)

    step = add("pca", [data], "what principal components give")
    step.add_argument("--latent-dim", type=int, required=True)
    step.add_argument("--output", type=Path, required=True)
    step.set_defaults(run=_pca)

    step = add("untrained", [recipe], "the probe on an encoder before training")
    step.add_argument("--output", type=Path, required=True)
    step.set_defaults(run=_untrained)

    step = add("cost", [recipe], "parameters, memory and speed of every arm")
    step.add_argument("--output", type=Path, required=True)
    step.set_defaults(run=_cost)

    step = add("weights", [common], "fetch the published weights of an extractor")
    step.add_argument("extractor", choices=[name for name, found in EXTRACTORS.items() if found.weights])
    step.add_argument("--output", type=Path, required=True)
    step.set_defaults(run=_weights)

    study = argparse.ArgumentParser(add_help=False)
    study.add_argument("--study", required=True, help="the checked study as JSON")
    step = add("table", [common, study], "the tables of a study")
    step.add_argument("--output", type=Path, required=True, help="folder for table1.*, table2.*, table3.* and runs.*")
    step.set_defaults(run=_table)

    step = add("claims", [common, study], "the verdicts of a study")
    step.add_argument("--claims", type=Path, required=True, help="config/claims.yaml")
    step.add_argument("--output", type=Path, required=True, help="the study's folder, for claims.* and tables/table4.*")
    step.set_defaults(run=_claims)

    step = add("tuning", [common, study], "the table and picture of a study that tunes")
    step.add_argument("--output", type=Path, required=True, help="the study's folder, for tuning.*")
    step.set_defaults(run=_tuning)

    step = add("figure", [data, study], "figures of a study")
    step.add_argument("kinds", nargs="+", choices=FIGURES, metavar="KIND", help=f"of {', '.join(FIGURES)}")
    step.add_argument("--recipe", required=True)
    step.add_argument("--latent-dim", type=int, required=True)
    step.add_argument("--output", type=Path, required=True, help="folder for <kind>-<recipe>-<data>-z<latent dim>.*")
    step.set_defaults(run=_figure)

    step = add("publish", [common, study], "copy a finished study's results for citation")
    step.add_argument("--output", type=Path, required=True, help="folder, for example results/published/mnist-1")
    step.set_defaults(run=_publish)

    step = add("verify", [common], "compare runs made here with those of a published study")
    step.add_argument("published", type=Path, help="folder, for example results/published/mnist-1")
    step.set_defaults(run=_verify)

    step = add("crate", [common], "describe a published study as an RO-Crate, for archives")
    step.add_argument("published", type=Path, help="folder, for example results/published/mnist-1")
    step.set_defaults(run=_crate)

    step = add("runs", [common], "list the runs below results/runs that no study uses, or remove them")
    step.add_argument("--config", type=Path, default=Path("config"), help="the folder of the studies")
    step.add_argument("--remove", action="store_true", help="remove what is listed")
    step.set_defaults(run=_runs)

    watch = argparse.ArgumentParser(add_help=False, parents=[common])
    watch.add_argument("config", type=Path, help="the study's file, for example config/quick.yaml")
    watch.add_argument("--watch", type=float, nargs="?", const=10.0, metavar="SECONDS", help="again, every 10 seconds")
    step = add("status", [watch], "how far a study is: its runs done, at work and to come")
    step.set_defaults(run=_status)

    step = add("tensorboard", [watch], "the training histories of a study as TensorBoard events")
    step.add_argument("--output", type=Path, required=True, help="folder, for example results/tensorboard/quick")
    step.set_defaults(run=_tensorboard)
    return parser


def _start_logging(path: Path | None) -> None:
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        handlers = [logging.FileHandler(path, mode="w", encoding="utf-8")]
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", handlers=handlers, force=True
    )


def main(arguments: list[str] | None = None) -> int:
    """Run one step; a user's mistake ends in one message and exit status 1."""
    parser = build_parser()
    argcomplete.autocomplete(parser)
    args = parser.parse_args(arguments)
    _start_logging(args.log)
    keep_freed_memory()
    try:
        if getattr(args, "device", "cpu") != "cpu":
            devices.lease_gpu()
        args.run(args)
    except KeyboardInterrupt:
        logging.error("interrupted. The same command goes on from what is saved.")
        return 128 + signal.SIGINT
    except BrokenPipeError:  # whoever read what we print has seen enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except Exception as error:
        message = str(error) if isinstance(error, InputError) else _memory_message(args.step, error)
        if message is None:
            logging.exception("%s failed", args.step)  # a fault of ours: the log keeps the traceback
            raise
        if args.verbose:
            raise
        logging.error("error: %s", message)
        if args.log is not None:
            print(f"error: {message}", file=sys.stderr)
        return 1
    return 0


def _memory_message(step: str, error: Exception) -> str | None:
    """What to tell the user when `error` says that memory is used up; None for every other error."""
    allocator = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)  # PyTorch's, on the CPU
    if not (isinstance(error, MemoryError) or allocator or type(error).__name__ == "OutOfMemoryError"):
        return None
    remedy = "a smaller training.batch_size" if step == "train" else "fewer jobs at once (`snakemake --cores`)"
    reason = str(error).partition("\n")[0] or type(error).__name__
    return f"{step}: out of memory ({reason}). Free some, or choose {remedy}, and run the same command again."


def cli() -> None:
    """Run one step as a program, `bvae` or `python -m bvae`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what the locale cannot write is no reason to fail
    sys.exit(main())


if __name__ == "__main__":
    cli()
