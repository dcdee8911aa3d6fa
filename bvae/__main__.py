# PYTHON_ARGCOMPLETE_OK
"""The command line: `python -m bvae STEP`, one step of the benchmark at a time, without Snakemake.

Most steps take a study's file and the name of what to make, and put it where the workflow would.
"""

import argparse
import contextlib
import io
import logging
import math
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import argcomplete

import bvae
from bvae.errors import LOGS_ARE_SHOWN, InputError, out_of_gpu_memory

try:
    from bvae.evaluation.extractors import EXTRACTORS
    from bvae.report import steps
    from bvae.report.figures import FIGURES
    from bvae.report.made_from import ALL_TABLES
    from bvae.system import devices
    from bvae.system.allocator import keep_freed_memory
    from bvae.system.files import describe_path_error
except InputError as error:  # an arm, a metric, a figure or an extractor that somebody added
    if __name__ != "__main__":  # the workflow imports this module, too, and says it in its own way
        raise
    sys.exit(f"error: {error}")

FETCH_SOURCES = """\
sources, each as it is given:
  sklearn:digits            torchvision:MNIST         torchvision:FashionMNIST
  torchvision:KMNIST        torchvision:EMNIST        torchvision:SVHN
  torchvision:Omniglot      mnist_binarized           cifar10
  celeba64
and your own images (PNG, JPEG, WebP, BMP) and arrays:
  folder:~/birds --size 64 --mode rgb     a folder <class>/<image>, or {train,test}/<class>/<image>, or <image>
  zip:birds.zip --crop 140 --size 64      a zip of such a folder, in BVAE_MIRROR or in resources/downloads/
  folder:~/birds --labels labels.csv      with classes by a file of rows name,label
  npz:birds.npz                           arrays train_images, test_images [, train_labels, test_labels], uint8
  idx:~/birds                             train-images-idx3-ubyte, ... as MNIST is published, plain or .gz

"""
# Steps that hold a slot of a GPU until they end: they compute on it nearly all the time, and `cost` measures its speed.
# The others compute on the CPU most of the time, so they take a slot only for each turn on the GPU (`on_card`).
HOLD_A_SLOT = ("train", "cost")
RESUME = ("train",)  # steps that save on their way, and go on from there
QUICK = "config/quick.yaml"
EXAMPLES = {
    "fetch": "sklearn:digits --name digits --output resources/data/digits.safetensors",
    "data describe": "resources/data/digits.safetensors --picture digits.png",
    "weights": "inception",
    "train": f"{QUICK} bvae-z8-seed0",
    "reference": "digits-classifier",
    "evaluate": f"{QUICK} bvae-z8-seed0",
    "distortions": "digits-classifier",
    "controls": "digits",
    "pca": "digits-pca8",
    "untrained": f"{QUICK} digits-z8-seed0",
    "cost": f"{QUICK} digits-z8",
    "table": f"{QUICK} table1",
    "claims": QUICK,
    "tuning": "config/tuning_mlp.yaml",
    "rates": "config/tuning_mlp.yaml",
    "figure": f"{QUICK} samples reconstructions",
    "record": QUICK,
    "publish": QUICK,
    "rebuild": "results/published/tuning_scaling-1 --output results/rebuilt/tuning_scaling",
    "verify": "results/published/mnist_mlp-1",
    "crate": "results/published/mnist_mlp-1",
    "site": "results/published --output results/site.html",
    "status": f"{QUICK} --watch",
    "summary": QUICK,
    "runs": "--remove",
    "tensorboard": f"{QUICK} --output results/tensorboard/quick",
}


def build_parser() -> argparse.ArgumentParser:
    """The parser of all steps."""
    parser = argparse.ArgumentParser(prog="python -m bvae", description=bvae.__doc__.partition("\n")[0])
    parser.add_argument("--version", action="version", version=f"bvae {bvae.__version__}")
    parser.add_argument("--verbose", action="store_true", help="show a traceback for every error")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--log", type=Path, help="write the log to this file; the terminal shows only errors and short summaries"
    )
    commands = parser.add_subparsers(dest="step", required=True, metavar="STEP")

    def add(name: str, parents: list[argparse.ArgumentParser], help: str, more: str = "") -> argparse.ArgumentParser:
        *above, last = name.split()
        return (looks if above else commands).add_parser(
            last,
            parents=parents,
            help=help,
            description=f"{help[0].upper()}{help[1:]}.",
            epilog=f"{more}example:\n  python -m bvae {name} {EXAMPLES[name]}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    step = add("fetch", [common], "make a data set file", FETCH_SOURCES)
    step.add_argument("source", help="for example torchvision:MNIST; the list is below")
    step.add_argument("--name", required=True, help="the data set's name")
    step.add_argument("--output", type=Path, required=True, help="resources/data/<name>.safetensors")
    step.add_argument("--sha256", help="expected hash of the decoded arrays; the log gives the hash")
    step.add_argument(
        "--validation",
        type=int,
        default=0,
        help="replace the test images by this many training images, a fixed draw, to choose settings on",
    )
    images = step.add_argument_group("taken by the sources folder and zip")
    images.add_argument(
        "--mode", choices=("grey", "rgb"), help="convert every image; without it all images must have the same mode"
    )
    images.add_argument("--crop", type=int, help="keep the central square with sides of this many pixels")
    images.add_argument("--size", type=int, help="then resize to this many pixels, antialiased")
    images.add_argument(
        "--test-fraction",
        type=float,
        help="share of images to draw for the test if there are no folders train and test",
    )
    images.add_argument("--labels", type=Path, help="a CSV file with rows name,label, if folders are not classes")
    images.add_argument("--skip-corrupt", action="store_true", help="leave out images that cannot be decoded")
    step.set_defaults(run=steps.fetch)

    step = commands.add_parser("data", help="look into a data set file")
    looks = step.add_subparsers(dest="look", required=True, metavar="LOOK")
    step = add("data describe", [common], "show its counts, classes, pixels, source, licence and hash")
    step.add_argument("file", type=Path, help="resources/data/<name>.safetensors")
    step.add_argument("--picture", type=Path, help="draw its first images, one row for each class, as a PNG")
    step.set_defaults(run=steps.describe)

    device = argparse.ArgumentParser(add_help=False, parents=[common])
    device.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    study = argparse.ArgumentParser(add_help=False)
    study.add_argument("study", type=Path, help="the study's file, for example config/quick.yaml")

    def add_named(name: str, parents: list, help: str, what: str, run: Callable) -> None:
        step = add(name, parents, help)
        step.add_argument("name", help=what)
        step.set_defaults(run=run)

    part = "or the end of this name, if no other in the study has the same end"
    of_run = f"the run, <recipe>/<data set>/<arm>-z<latent dim>-seed<seed>, {part}"
    add_named("train", [study, device], "train one run", of_run, steps.train)
    add_named(
        "evaluate",
        [study, device],
        "compute the metrics of a trained run (in a study that tunes, its ELBO)",
        of_run,
        steps.evaluate,
    )
    kinds = f"<data set>-<one of {', '.join(EXTRACTORS)}>"
    add_named("reference", [device], "make the real side of a Fréchet distance", kinds, steps.reference)
    known = "measure what known changes of real images cost in Fréchet distance"
    add_named("distortions", [device], known, kinds, steps.distortions)
    add_named(
        "controls", [common], "measure what a data set gives without an autoencoder", "the data set", steps.controls
    )
    add_named(
        "pca", [common], "measure what principal components of the pixels give", "<data set>-pca<components>", steps.pca
    )
    of_seed = f"<recipe>/<data set>-z<latent dim>-seed<seed>, {part}"
    add_named("untrained", [study, device], "fit the probe on an encoder before training", of_seed, steps.untrained)
    of_group = f"<recipe>/<data set>-z<latent dim>, {part}"
    add_named("cost", [study, device], "measure what each arm costs: parameters, memory, speed", of_group, steps.cost)

    step = add("weights", [common], "fetch the published weights of an extractor")
    step.add_argument("extractor", choices=[name for name, found in EXTRACTORS.items() if found.weights])
    step.set_defaults(run=steps.weights)

    step = add("table", [study, common], "make the tables of a study")
    step.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(ALL_TABLES)}; without a name, all")
    step.set_defaults(run=steps.table)

    rules = argparse.ArgumentParser(add_help=False)
    rules.add_argument(
        "--claims", type=Path, help="protocol 1 only: the claims and their margins, by default config/claims.yaml"
    )
    step = add("claims", [study, rules, common], "make the verdicts of a study")
    step.set_defaults(run=steps.claims)

    step = add("tuning", [study, common], "make the table and the picture of a study that tunes")
    step.set_defaults(run=steps.tuning)

    more = "Its grid must have steps of the square root of 2. Exit status 1 if the grid must be extended.\n\n"
    step = add("rates", [study, common], "choose learning rates by a finished study that tunes", more)
    step.set_defaults(run=steps.rates)

    step = add("figure", [study, common], "draw figures of a study")
    what = f"a kind ({', '.join(FIGURES)}), or one figure, <kind>-<recipe>-<data set>-z<latent dim>"
    step.add_argument("names", nargs="+", metavar="NAME", help=what)
    step.set_defaults(run=steps.figure)

    step = add("record", [study, common], "copy the results of a study's runs, without models, to results/records")
    step.set_defaults(run=steps.record)

    step = add("publish", [study, rules, common], "copy a finished study's results for citation")
    step.set_defaults(run=steps.publish)

    help = "make tables, verdicts and figures of a published study from its data"
    step = add("rebuild", [common], help, "It needs no runs, models or data sets.\n\n")
    step.add_argument("published", type=Path, help="its folder, for example results/published/tuning_scaling-1")
    step.add_argument("--output", type=Path, required=True, help="folder, for example results/rebuilt/tuning_scaling")
    step.set_defaults(run=steps.rebuild)

    for name, help, run in (
        ("verify", "compare runs made here with those of a published study", steps.verify),
        ("crate", "describe a published study as an RO-Crate, for archives", steps.crate),
    ):
        step = add(name, [common], help)
        step.add_argument("published", type=Path, help="its folder, for example results/published/mnist-1")
        step.set_defaults(run=run)

    step = add("site", [common], "make the results page: all published studies in one HTML file that needs no network")
    step.add_argument("published", type=Path, help="the folder of published studies, results/published")
    step.add_argument("--output", type=Path, required=True, help="the page, for example results/site.html")
    step.set_defaults(run=steps.site)

    step = add("runs", [common], "list the runs below results/runs that no study uses, or remove them")
    step.add_argument("--config", type=Path, default=Path("config"), help="the folder of the studies")
    step.add_argument("--remove", action="store_true", help="remove what is listed")
    step.set_defaults(run=steps.runs)

    watch = argparse.ArgumentParser(add_help=False, parents=[study, common])
    watch.add_argument(
        "--watch",
        type=_seconds,
        nargs="?",
        const=10.0,
        metavar="SECONDS",
        help="repeat every 10 seconds, or every SECONDS",
    )
    step = add("status", [watch], "show how far a study is: its runs that are done, running and to come")
    step.set_defaults(run=steps.status)

    step = add("summary", [study, common], "show what a study has found so far, and what to do next")
    step.set_defaults(run=steps.summary)

    step = add("tensorboard", [watch], "write the training histories of a study as TensorBoard events")
    step.add_argument("--output", type=Path, required=True, help="folder, for example results/tensorboard/quick")
    step.set_defaults(run=steps.tensorboard)
    return parser


def read_rule(command: str, output: Path, place: str) -> dict[str, str]:
    """What a data set file will say that it was made from, by the command of its rule in the file `place`.

    That is `source`, and `sha256` if the command has it; nothing where no step `fetch` can be read from the command.
    Raises InputError when the command gives the data set another name than its file.
    """
    try:
        words = shlex.split(command.replace("\\\n", " "), comments=True)
        begin = next(i for i in range(1, len(words)) if words[i] == "fetch" and Path(words[i - 1]).name == "bvae")
    except (ValueError, StopIteration):
        return {}
    ends = [i for i, word in enumerate(words) if i > begin and (word in ("&&", "||", ";", "|", "&") or word[0] in "<>")]
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            args = build_parser().parse_args(words[begin : min(ends, default=len(words))])
    except SystemExit:
        return {}
    if args.name != output.stem:
        raise InputError(
            f"{place}: its rule makes {output} with `--name {args.name}`, wanted `--name {output.stem}`: a data set has"
            " the name of its file. Correct the rule."
        )
    return {"source": steps.source_of_fetch(args)} | ({"sha256": args.sha256} if args.sha256 else {})


def _seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < (seconds := float(text)) < math.inf:
            return seconds
    raise argparse.ArgumentTypeError(f"invalid: expected seconds above 0, got '{text}'")


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
    try:
        _start_logging(args.log)
    except OSError as error:
        parser.error(f"--log {args.log}: cannot be written ({error.strerror})")
    keep_freed_memory()
    args.started = time.time()  # before it waits for a GPU
    try:
        with contextlib.ExitStack() as stack:
            if getattr(args, "device", "cpu") != "cpu":
                stack.enter_context(devices.lease_gpu(hold=args.step in HOLD_A_SLOT))
            args.run(args)
    except KeyboardInterrupt:
        again = "goes on from what is saved" if args.step in RESUME else "begins again"
        logging.error("%s: interrupted. The same command %s.", args.step, again)
        return 128 + signal.SIGINT
    except BrokenPipeError:  # whoever read what we print has seen enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except Exception as error:
        message = str(error) if isinstance(error, InputError) else _memory_message(args.step, error)
        if isinstance(error, OSError):
            message = describe_path_error(error, [path for path in vars(args).values() if isinstance(path, Path)])
        if message is None:
            logging.exception("%s failed", args.step)  # a fault of ours: the log keeps the traceback
            if args.log is not None and LOGS_ARE_SHOWN in os.environ:
                return 1
            raise
        if args.verbose:
            raise
        logging.error("error: %s", message)
        if args.log is not None and LOGS_ARE_SHOWN not in os.environ:
            print(f"error: {message}", file=sys.stderr)
        return 1
    return 0


def _memory_message(step: str, error: Exception) -> str | None:
    """What to tell the user when `error` says that memory is used up; None for every other error."""
    allocator = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)  # PyTorch's, on the CPU
    on_gpu = out_of_gpu_memory(error)
    if not (isinstance(error, MemoryError) or allocator or on_gpu):
        return None
    remedy = "a smaller training.batch_size" if step == "train" else "fewer jobs at once (`snakemake --cores`)"
    if on_gpu:
        remedy += f", or fewer jobs on each GPU (`export {devices.SLOTS_VARIABLE}=1`)"
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
