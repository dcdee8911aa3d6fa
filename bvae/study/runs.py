"""The runs that a checked study means, and where their files are."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import bvae
from bvae.arms import ARMS
from bvae.errors import InputError
from bvae.system.files import sha256_of_json, write_text

if TYPE_CHECKING:
    from bvae.runs import Run

FOLDER = Path("results/runs")
RECORDS = Path("results/records")  # in git: what remains of a run without its model
SUMS = "SHA256SUMS"  # of the other files of a record, in its folder
GROUP = ["dataset", "recipe", "latent_dim"]  # of a run: what arms and seeds are compared within
CHECKED = Path(".snakemake/studies")  # where the workflow writes the checked study for its jobs


def expand_runs(config: dict) -> list[dict]:
    """The runs of a checked study, each once: dicts of recipe, dataset, arm, latent_dim, seed."""
    runs = {
        combination: None
        for block in config["blocks"]
        for combination in itertools.product(
            *(block[key] for key in ("recipes", "datasets", "latent_dims", "arms", "seeds"))
        )
    }
    names = ("recipe", "dataset", "latent_dim", "arm", "seed")
    return [dict(zip(names, combination, strict=True)) for combination in runs]


def training_settings(recipe: dict, arm: str) -> dict:
    """The part of a checked recipe that an arm's models depend on; a change of the rest only evaluates anew."""
    settings = {key: value for key, value in recipe.items() if key != "importance"}
    rate = recipe["training"]["learning_rate"]
    rate = rate[arm] if isinstance(rate, dict) else rate  # one for every arm, or each arm's own
    if (version := ARMS[arm].version if arm in ARMS else 1) > 1:  # the first is not written: most keys have none
        settings["arm_version"] = version
    return settings | {"training": recipe["training"] | {"learning_rate": rate}}


def first_settings(recipe: dict) -> dict:
    """`training_settings` of the first arm that has a rate: for what depends on a recipe and on no arm's rate."""
    rate = recipe["training"]["learning_rate"]
    return training_settings(recipe, next(iter(rate)) if isinstance(rate, dict) else "")


def network_settings(recipe: dict) -> dict:
    """The part of a checked recipe that the diagrams of its network depend on."""
    return {key: recipe[key] for key in ("network", "objective", "likelihood") if key in recipe}


def settings_key(settings: object) -> str:
    """Eight hex digits of settings and of the code that trains by them: other numbers, another key."""
    return sha256_of_json([bvae.TRAINING_VERSION, settings])[:8]


def run_name(run: dict) -> str:
    """What a run is called in its study.

    >>> run_name({"recipe": "mlp", "dataset": "mnist", "arm": "bvae", "latent_dim": 128, "seed": 0})
    'mlp/mnist/bvae-z128-seed0'
    """
    return "{recipe}/{dataset}/{arm}-z{latent_dim}-seed{seed}".format_map(run)


def run_folders(study: dict, root: Path = Path()) -> dict[str, str]:
    """The folder of each run of a checked study, from `root`, by the run's name.

    It is results/runs/<recipe>-<key>/<data set>/<arm>-z<latent_dim>-seed<seed>. The key is that of the settings, so
    runs of other settings never meet. Runs of equal settings do, whatever their recipes are called: a folder of the key
    that is there is used, and within a study the first recipe names it.
    """
    known = _known(root / FOLDER)
    keyed: dict[tuple[str, str], str] = {}
    folders = {}
    for run in expand_runs(study):
        pair = (run["recipe"], run["arm"])
        if pair not in keyed:
            key = settings_key(training_settings(study["recipes"][run["recipe"]], run["arm"]))
            keyed[pair] = known.setdefault(key, f"{run['recipe']}-{key}")
        folders[run_name(run)] = f"{FOLDER.as_posix()}/{keyed[pair]}/{run_name(run).partition('/')[2]}"
    return folders


def _known(folder: Path) -> dict[str, str]:
    """The name <recipe>-<key> in a folder by its key, of several the last."""
    return {key: names[-1] for key, names in _names_by_key(folder).items()}


def _names_by_key(folder: Path) -> dict[str, list[str]]:
    """The names <recipe>-<key> of the folders in a folder that are not empty, by their keys."""
    found: dict[str, list[str]] = {}
    for path in sorted(folder.glob("*-*")):
        if path.is_dir() and any(path.iterdir()):
            found.setdefault(path.name.rpartition("-")[2], []).append(path.name)
    return found


def first_name(folder: str) -> str:
    """The recipe that names a folder <recipe>-<key>; another study may call its recipe of these settings otherwise.

    >>> first_name("mlp-quick-70903312")
    'mlp-quick'
    """
    return folder.rpartition("-")[0]


def results_name(study: dict, recipe: str) -> str:
    """The file in the folder of each run of a recipe that a checked study's tables are made of.

    Metrics have the key of what evaluation depends on in their name: studies that ask for others do not overwrite them.
    """
    if study.get("tuning"):  # a manifest may be older than the key
        return "validation.json"
    asked = [study["features"], study["recipes"][recipe]["importance"]]
    return f"metrics-{settings_key([*asked, 2] if protocol_of(study) == 2 else asked)}.json"


def per_image_path(results: str) -> str:
    """Where the values of each image are that belong to a run's results, by the path of these.

    >>> per_image_path("results/runs/r-12345678/digits/vae-z8-seed0/metrics-0123abcd.json")
    'results/runs/r-12345678/digits/vae-z8-seed0/per_image-0123abcd.safetensors'
    """
    folder, _, name = results.rpartition("/")
    return f"{folder}/per_image{name.removeprefix('metrics').removesuffix('.json')}.safetensors"


def results_paths(study: dict, root: Path = Path()) -> dict[str, str]:
    """The results of each run of a checked study, from `root`, by the run's name."""
    folders = run_folders(study, root)
    return {name: f"{folder}/{results_name(study, name.partition('/')[0])}" for name, folder in folders.items()}


def found_results(study: dict, root: Path = Path()) -> dict[str, str]:
    """As `results_paths`; of a run that is not there but has a record, the results in the record.

    A record is a folder of results/records/ that is named as the run's folder is, up to the recipe before the key.
    Raises InputError where two records are of one run and differ.
    """
    paths, folders = results_paths(study, root), _names_by_key(root / RECORDS)
    for name, path in paths.items():
        records = [record for record in _records(path, folders) if (root / record).exists()]
        if records and not any((root / file).exists() for file in (path, beside(path, "model.safetensors"))):
            paths[name] = records[0]
            if len({(root / record).read_bytes() for record in records}) > 1:
                raise InputError(
                    f"{root / records[0]} and {root / records[1]}: two records of one run, and their results differ."
                    " Delete the folder of the run that is not to count."
                )
    return paths


def record_of(results: str, root: Path = Path()) -> str:
    """Where the record of results of results/runs/ is, or would be: in the folder of its key if there is one.

    Where there are several, from merged branches, it is in the first in which these results are.
    """
    places = _records(results, _names_by_key(root / RECORDS))
    return next((record for record in places if (root / record).exists()), places[0])


def _records(results: str, folders: Mapping[str, Sequence[str]]) -> list[str]:
    """Where a record of results may be, by the names of the folders of records by their keys."""
    _, _, named, rest = results.split("/", 3)
    names = folders.get(named.rpartition("-")[2], [named])
    return [f"{RECORDS.as_posix()}/{name}/{rest}" for name in names]


def read_sums(path: Path) -> dict[str, str]:
    """The SHA-256 of files by their names, as `sha256sum` writes and checks them. Raises InputError if damaged."""
    try:
        lines = path.read_text(encoding="ascii").splitlines() if path.exists() else []
        return {name: sha256 for sha256, name in (line.split("  ", 1) for line in lines)}
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: damaged ({error}). Get it again from git.") from None


def write_sums(folder: Path, sums: dict[str, str]) -> None:
    """Write the hashes of a record's files; those of its other files stay, as it may hold several results of a run."""
    kept = read_sums(folder / SUMS)
    if kept != (wanted := kept | sums):
        write_text(folder / SUMS, "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(wanted.items())))


def beside(results: str, name: str) -> str:
    """The path of another file of a run, by that of its results."""
    return f"{results.rpartition('/')[0]}/{name}"


def is_record(results: str) -> bool:
    """Whether results are those of a record, by their path.

    >>> is_record("results/records/r-12345678/digits/vae-z8-seed0/metrics-0123abcd.json")
    True
    """
    return results.startswith(f"{RECORDS.as_posix()}/")


def protocol_of(study: dict) -> int:
    """The protocol by which a checked study is evaluated and judged: 1 or 2. Without the key it is 1."""
    return study.get("protocol", 1)


def command_of(study: dict) -> str:
    """What makes a checked study's results, where its file has its name.

    >>> command_of({"study": "mnist_mlp"})
    'snakemake --configfile config/mnist_mlp.yaml'
    """
    return f"snakemake --configfile config/{study['study']}.yaml"


def publication(study: dict) -> str:
    """Where a checked study is published, from the working directory.

    >>> publication({"study": "mnist_mlp", "version": 1})
    'results/published/mnist_mlp-1'
    """
    return f"results/published/{study['study']}-{study['version']}"


def study_folder(study: dict) -> Path:
    """Where a checked study's tables, figures and claims are, from the working directory."""
    return Path("results/studies") / study["study"]


def reference_path(dataset: str, extractor: str) -> str:
    """Where the real side of the distances of a data set is."""
    return f"results/references/{dataset}-{extractor}.safetensors"


def recorded_reference(dataset: str, extractor: str) -> str:
    """Where the record of the network is that the distances of recorded runs are over."""
    return f"{RECORDS.as_posix()}/references/{dataset}-{extractor}.safetensors"


def controls_path(dataset: str) -> str:
    """Where it is what a data set gives without an autoencoder."""
    return f"results/controls/{dataset}/controls.json"


def distances_path(dataset: str, extractor: str) -> str:
    """Where it is what known changes of a data set's test images cost in Fréchet distance."""
    return f"results/controls/{dataset}/distances-{extractor}.json"


def pca_path(dataset: str, latent_dim: int) -> str:
    """Where it is what so many principal components of a data set give."""
    return f"results/controls/{dataset}/pca{latent_dim}.json"


def data_path(dataset: str) -> str:
    """Where a data set is."""
    return f"resources/data/{dataset}.safetensors"


def group_paths(study: dict, root: Path = Path()) -> list[dict]:
    """For each (recipe, data set, latent dim) of a study: the paths of its controls and of its cost, and two folders.

    `arms` are those whose cost the study asks for: of all groups of the same file, which differ in their evaluation
    only. `seed` is the least, that of the untrained encoder; `network` is the folder of the network's diagrams,
    `figures` that of the study's figures. As with runs, a folder of equal settings that is there is used, whatever its
    recipe was called.
    """
    groups: dict[tuple, list[dict]] = {}
    for run in expand_runs(study):
        groups.setdefault((run["recipe"], run["dataset"], run["latent_dim"]), []).append(run)
    known = {part: _known(root / "results" / part) for part in ("untrained", "costs", "networks")}
    found: list[dict] = []
    arms: dict[str, set[str]] = {}
    for (recipe, dataset, latent_dim), runs in groups.items():
        seed = min(run["seed"] for run in runs)
        of_run, of_network = map(
            settings_key, (split(study["recipes"][recipe]) for split in (first_settings, network_settings))
        )
        keys = {"untrained": of_run, "costs": of_run, "networks": of_network}
        untrained, costs, networks = (known[part].setdefault(key, f"{recipe}-{key}") for part, key in keys.items())
        found.append(
            {
                "recipe": recipe,
                "dataset": dataset,
                "latent_dim": latent_dim,
                "seed": seed,
                "untrained": f"results/untrained/{untrained}/{dataset}-z{latent_dim}-seed{seed}.json",
                "pca": pca_path(dataset, latent_dim),
                "controls": controls_path(dataset),
                "cost": f"results/costs/{costs}/{dataset}-z{latent_dim}.json",
                "network": f"results/networks/{networks}/{dataset}-z{latent_dim}",
                "figures": f"{study_folder(study).as_posix()}/figures/{recipe}/{dataset}-z{latent_dim}",
            }
        )
        arms.setdefault(found[-1]["cost"], set()).update(run["arm"] for run in runs)
    return [group | {"arms": sorted(arms[group["cost"]])} for group in found]


def made_from_path(study: dict, rule: str, group: dict | None = None) -> str:
    """The file that says what a rule made tables, claims or figures from; of figures, `group` is of `group_paths`."""
    if rule == "diagrams" and group is not None:
        return f"{group['network']}/made_from.json"
    folder = study_folder(study).as_posix()
    place = "" if group is None else f"{group['recipe']}/{group['dataset']}-z{group['latent_dim']}/"
    return f"{folder}/made_from/{place}{rule}.json"


class Meant(NamedTuple):
    """What a name means in a study."""

    run: "Run"  # with the recipe's name and the settings that its folder has
    recipe: str  # what the study itself calls that recipe, or the first of several that share the path
    path: Path  # of what is made


def find_run(study: dict, name: str, root: Path = Path(), *, results: bool = False) -> Meant:
    """The run of a checked study that a name means, and its folder; or with `results` the file of its results.

    The name is the run's own, the path, or the end of either from a slash on. Raises InputError when nothing or several
    are called so.
    """
    paths = (results_paths if results else run_folders)(study, root)
    run, path = _meant(study, name, [(run, run_name(run), paths[run_name(run)]) for run in expand_runs(study)])
    return _as_run(run, training_settings(study["recipes"][run["recipe"]], run["arm"]), path)


def find_group(study: dict, name: str, kind: str, root: Path = Path()) -> Meant:
    """What to measure for a (recipe, data set, latent dim) of a checked study that a name means, and its file.

    `kind` is "untrained" or "cost". The name is <recipe>/<data set>-z<latent dim>, of the untrained encoder with its
    -seed<seed>, the path, or the end of either from a slash on. Raises InputError as `find_run` does.
    """
    groups = group_paths(study, root)
    things = [(group, f"{group['recipe']}/{Path(group[kind]).stem}", group[kind]) for group in groups]
    group, path = _meant(study, name, things)
    run = {key: group[key] for key in ("recipe", "dataset", "latent_dim")} | {"arm": "bvae"}
    run["seed"] = int(Path(path).stem.rpartition("-seed")[2]) if kind == "untrained" else 0
    return _as_run(run, first_settings(study["recipes"][run["recipe"]]), path)


def _meant(study: dict, name: str, things: list[tuple[dict, str, str]]) -> tuple[dict, str]:
    """Of `things`, each with its name and its path, the first that `name` means; all that it means share that path."""
    found = [
        (thing, called, path)
        for thing, called, path in things
        if any(f"/{known}".endswith(f"/{name}") for known in (called, path))
    ]
    if len({path for _, _, path in found}) == 1:
        thing, _, path = found[0]
        return thing, path
    names = [called for _, called, _ in found or things]
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} others" if len(names) > 3 else "")
    if found:
        raise InputError(f"'{name}' is the end of {len(found)} names: {shown}. Give more of the one that you want.")
    raise InputError(f"study '{study['study']}' has no '{name}'. It has {shown}.")


def _as_run(run: dict, settings: dict, path: str) -> Meant:
    from bvae.runs import Run

    recipe = first_name(Path(path).parts[2])
    return Meant(Run(settings=settings, **run | {"recipe": recipe}), run["recipe"], Path(path))
