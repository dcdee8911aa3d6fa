# The checked study and the names of its files, for all rules.
import hashlib
import os
import shlex
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

ROOT = Path(str(workflow.current_basedir)).parents[1]
sys.path.insert(0, str(ROOT))

from bvae.arms import ARMS
from bvae.evaluation.extractors import EXTRACTORS
from bvae.__main__ import read_rule
from bvae.report.figures import FIGURES as KINDS_OF_FIGURES, kinds_of
from bvae.report.claims_file import load_claims
from bvae.report.pilots import check_pilots
from bvae.report import made_from, outdated as comparison
from bvae.report.made_from import distances_of, files_of
from bvae.study.config import (
    check_files,
    check_interpreter,
    check_root,
    check_study,
    check_tuning,
    known_datasets,
)
from bvae.study.runs import (
    CHECKED,
    controls_path,
    data_path,
    distances_path,
    expand_runs,
    found_results,
    group_paths,
    is_record,
    made_from_path,
    pca_path,
    per_image_path,
    protocol_of,
    publication,
    reference_path,
    results_paths,
    run_name,
    study_folder,
)
from bvae.errors import InputError
from bvae.system.devices import visible_cards
from bvae.system.files import read_yaml, sha256_of_json, write_json, write_text
from bvae.system.locks import clear_stale_locks
from bvae.system.options import as_flags, said_of_source
from bvae.system.stamps import set_stamps, stamp_of

# Of every rule, for --software-deployment-method conda.
ENVIRONMENT = str(ROOT / "environment.yml")

# No job of a running Snakemake, and no module of another workflow: these leave its locks alone.
IN_CHARGE = workflow.is_main_process and Path(
    workflow.main_snakefile
).resolve().is_relative_to(ROOT)

if (
    moved := str(workflow.modifier.path_modifier.replace_prefix("results/"))
) != "results/":
    raise WorkflowError(
        f"a module's prefix moves the results to {moved}, but the steps of this workflow write to results/ of the"
        " working directory. Remove the prefix, and give Snakemake the folder that you want as --directory."
    )

try:
    check_root(ROOT)
    if IN_CHARGE:
        SNAKEMAKE_LOCK = clear_stale_locks(Path(".snakemake"))
    if workflow.is_main_process:
        given = workflow.overwrite_configfiles if IN_CHARGE else []
        check_files(workflow.configfiles, given)
    DATASETS = known_datasets(ROOT / "workflow")
    PUBLISHED = read_yaml(ROOT / "workflow/datasets.yaml")
    STUDY = check_study(config, datasets=DATASETS)
    check_pilots(load_claims(ROOT / "config/claims.yaml")[1], STUDY)
    # Snakemake does not say yet which executor it will use. Those of clusters require --jobs. Who gives --jobs on one
    # machine gets no limits here; the jobs then wait for slots by themselves.
    LOCAL = workflow.is_main_process and workflow.resource_settings.nodes is None
    SLOTS = sum(visible_cards().values()) if LOCAL else 0
except InputError as error:
    raise WorkflowError(str(error)) from None

# On one machine, as many jobs hold a slot of a GPU at once as its cards have slots. Without a GPU only the cores limit
# the jobs. A profile or --resources may set other limits.
#
# Training and `cost` hold a slot until they end, and ask for `gpu`. Evaluation computes on the CPU most of the time and
# takes a slot only for each turn on the GPU (bvae/system/batching.py), so more of its jobs may run than there are
# slots. They ask for `gpu_turns`. It has a limit because each of these jobs needs memory of a card even between turns.
# On a cluster they ask for `gpu` as well, because a scheduler shows no GPU to a job that does not ask for one.
TURNS_PER_SLOT = 4
GPU_OF_TURNS = 0 if LOCAL else 1
if SLOTS:
    for resource, limit in {"gpu": SLOTS, "gpu_turns": TURNS_PER_SLOT * SLOTS}.items():
        if resource not in workflow.global_resources:
            workflow.register_resource(resource, limit)


# Steps run as `python -m bvae` from any working directory.
shell.prefix(
    f'export PYTHONPATH={shlex.quote(str(ROOT))}"${{{{PYTHONPATH:+:$PYTHONPATH}}}}"; '
)


onstart:
    if workflow.non_local_exec:
        try:
            check_interpreter(sys.executable)
        except InputError as error:
            raise WorkflowError(str(error)) from None


# Jobs read the checked study from a file. Its name has a hash of it, so that no other Snakemake changes it meanwhile.
STUDY_FILE = f"{CHECKED}/{STUDY['study']}-{sha256_of_json(STUDY)[:12]}.json"
if not Path(STUDY_FILE).exists():
    write_json(STUDY_FILE, STUDY)

RUNS = expand_runs(STUDY)
RESULTS_OF = found_results(STUDY)  # by the name of each run
RECORDED = any(map(is_record, RESULTS_OF.values()))
STUDY_FOLDER = study_folder(STUDY).as_posix()
RUN = "results/runs/{recipe}/{dataset}/{arm}-z{latent_dim}-seed{seed}"
GROUPS = group_paths(STUDY)
# The recipe of each folder of runs and controls, whose names have the key of its settings; figures have its plain name.
RECIPE_OF = {name: name for name in STUDY["recipes"]}
RECIPE_OF |= {
    Path(path).parts[2]: name.partition("/")[0]
    for name, path in results_paths(STUDY).items()
}
RECIPE_OF |= {
    Path(group[part]).parts[2]: group["recipe"]
    for group in GROUPS
    for part in ("untrained", "cost", "network")
}
DATA = data_path("{dataset}")
CLAIMS_FILE = os.path.relpath(ROOT / "config/claims.yaml")


wildcard_constraints:
    recipe="[a-z0-9][a-z0-9_-]*",
    dataset="|".join(DATASETS),
    arm="|".join(ARMS),
    latent_dim=r"\d+",
    seed=r"\d+",
    extractor="|".join(EXTRACTORS),
    weights="|".join(
        Path(found.weights.path).name for found in EXTRACTORS.values() if found.weights
    ),
    metrics="[0-9a-f]{8}",


def recipe_of(wildcards):
    if wildcards.recipe not in RECIPE_OF:
        raise WorkflowError(
            f"study '{STUDY['study']}' has no run in results/runs/{wildcards.recipe}"
        )
    return STUDY["recipes"][RECIPE_OF[wildcards.recipe]]


def fetch_options(wildcards):
    """What `python -m bvae fetch` is told of a published data set."""
    entry = PUBLISHED[wildcards.dataset]
    checks = {key: entry[key] for key in ("validation", "sha256") if key in entry}
    return [
        entry["source"],
        *(word for flag in as_flags(checks) for word in flag.split()),
    ]


def stamp(result):
    """An input of what makes a result, a file that is newer than the result if that is outdated."""
    return lambda wildcards: stamp_of(result.format(**dict(wildcards.items())))


def threads_of(wildcards):
    return recipe_of(wildcards)["threads"]


# What a job asks of a cluster; measured for MNIST on a CPU are 0.8 GB in training, 1.6 GB in evaluation, 2.4 GB for the
# controls, CUDA takes some more. A second attempt asks for twice as much.
def memory(megabytes, copies):
    """So much for the program, and so many copies of its data set, the first input."""

    def wanted(wildcards, input, attempt):
        # not input.size_mb, which takes ten times as long: it is asked for of every job
        return attempt * (megabytes + copies * (os.path.getsize(input[0]) // 10**6))

    return wanted


def minutes(count):
    return lambda wildcards, attempt: attempt * count


def results_of(runs):
    return [RESULTS_OF[run_name(run)] for run in runs]


def controls_of(rule):
    """The controls and costs that tables or claims are made from."""
    return [group[part] for group in GROUPS for part in made_from.CONTROLS_OF[rule]]


def runs_of_figures(wildcards):
    place = (wildcards.recipe, wildcards.dataset, int(wildcards.latent_dim))
    return results_of(
        run
        for run in RUNS
        if (run["recipe"], run["dataset"], run["latent_dim"]) == place
    )


FIGURE = "{recipe}/{dataset}-z{latent_dim}"
# As an entry of `group_paths`, with wildcards.
ANY_GROUP = {
    **{key: f"{{{key}}}" for key in ("recipe", "dataset", "latent_dim")},
    "figures": f"{STUDY_FOLDER}/figures/{FIGURE}",
    "network": f"results/networks/{FIGURE}",
}
NETWORK_AND_STUDY = """

Data set {{ snakemake.wildcards.dataset }}, recipe {{ snakemake.wildcards.recipe }},
{{ snakemake.wildcards.latent_dim }} latent dimensions; study {{ snakemake.config["study"] }}, under our disclosed
settings.
"""


def caption_file(text):
    """A caption as a file, as the report wants it."""
    name = hashlib.sha256(text.encode()).hexdigest()[:12]
    path = Path(f".snakemake/captions/{name}.rst").resolve()
    if not path.exists():
        write_text(path, text)
    return path


def table_file(path):
    """A file of a table. The report shows html and has csv and tex to download."""
    name, suffix = Path(path).stem, Path(path).suffix[1:]
    if suffix in ("json", "md"):
        return path
    return report(
        path,
        caption=f"../report/{name}.rst",
        category="1 Claims" if name == "claims" else "7 Tables",
        labels={"result": name, "format": suffix},
    )


def labels_of(result):
    """What the report says of a figure. A label of two values becomes a toggle there."""
    return lambda wildcards: {
        "result": result,
        "data set": wildcards.dataset,
        "latent dim": wildcards.latent_dim,
        "recipe": RECIPE_OF[wildcards.recipe],
    }


def figures_of(rule):
    """The output of a rule that draws figures. The report shows the svg."""
    outputs = []
    for path in files_of(STUDY, rule, ANY_GROUP, recorded=RECORDED):
        kind = KINDS_OF_FIGURES[Path(path).stem]
        said = {
            "caption": caption_file(kind.caption + NETWORK_AND_STUDY),
            "category": kind.category,
            "labels": labels_of(kind.name),
        }
        outputs.append(report(path, **said) if path.endswith(".svg") else path)
    return outputs


def names_of_figures(rule):
    """What `python -m bvae figure` is asked for."""
    paths = files_of(STUDY, rule, ANY_GROUP, recorded=RECORDED)
    return [path.removesuffix(".svg") for path in paths if path.endswith(".svg")]
