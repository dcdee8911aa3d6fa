"""The data of a published study: all that its tables, verdicts and numeric figures are made from, in one file.

`data.json.gz` holds the results and the training history of every run, the controls and the costs, as the files that
the workflow made. `rebuild` puts them back into a folder and makes the views there, by the code that made them first.
"""

import csv
import gzip
import json
import shutil
import tempfile
from pathlib import Path

from bvae.errors import InputError
from bvae.report.made_from import CLAIMS, Plan, inputs_of, rules_of
from bvae.study.config import is_name
from bvae.study.runs import beside, is_record, protocol_of, record_of, study_folder, write_sums
from bvae.system.files import make_folder, read_json, sha256_of_file, whole_file, write_json, write_text

DATA_FILE = "data.json.gz"


def collect_data(plan: Plan) -> dict:
    """What `data.json.gz` holds of a finished study.

    `study`, the checked study; `results`, by path, what the jobs wrote of runs, controls and costs, with a run where
    its record would be; `histories`, of each run by the path of its results, as csv. Of protocol 1 also `claims`, the
    text of the claims with their margins; of protocol 2 `errors`, the standard errors over images of comparisons.
    """
    root = plan.contents.root
    runs = {path: path if is_record(path) else record_of(path, root) for path in plan.results.values()}
    others = {path for rule in rules_of(plan.study) for path in inputs_of(plan, rule)} - {*runs, plan.claims}
    data: dict[str, object] = {
        "study": plan.study,
        "results": {to: read_json(root / path) for path, to in (runs | {path: path for path in others}).items()},
        "histories": {
            to: (root / beside(path, "history.csv")).read_text(encoding="utf-8") for path, to in runs.items()
        },
    }
    if plan.study["tuning"]:
        return data
    if protocol_of(plan.study) == 1:
        return data | {"claims": (root / plan.claims).read_text(encoding="utf-8")}
    return data | {"errors": read_errors(root / study_folder(plan.study) / "comparisons.csv")}


def read_errors(comparisons: Path) -> list[dict]:
    """The lines of the table of comparisons that have errors over images: these, and what they are of."""
    from bvae.report.judgement import ERRORS

    with comparisons.open(encoding="utf-8", newline="") as file:
        lines = [line for line in csv.DictReader(file) if line.get(ERRORS[0])]
    return [
        {name: line[name] for name in ("dataset", "recipe", "arms", "metric")}
        | {"latent_dim": int(line["latent_dim"])}
        | {name: float(line[name]) for name in ERRORS}
        for line in lines
    ]


def write_data(data: dict, path: Path) -> None:
    """Write it compressed; equal data are equal bytes."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    with whole_file(path) as part:
        part.write_bytes(gzip.compress(text.encode(), mtime=0))


def read_data(published: Path) -> dict:
    """The data of a published study.

    Raises InputError where there are none, as of studies that were published before these were kept, or where the file
    is damaged or not the one that its manifest names.
    """
    path, manifest = published / DATA_FILE, published / "manifest.json"
    if not path.is_file():
        raise InputError(
            f"{path}: no such file. Expected the folder of a published study with its data. The oldest publications"
            " have none: their tables are csv files."
        )
    said: object = read_json(manifest) if manifest.is_file() else None
    files = said.get("files") if isinstance(said, dict) else None
    if not isinstance(files, dict) or files.get(DATA_FILE) != sha256_of_file(path):
        raise InputError(
            f"{path}: not the file that was published. Get it and its manifest again, for example from git."
        )
    try:
        data = json.loads(gzip.decompress(path.read_bytes()))
        _check(data)
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"{path}: damaged ({error}). Get it again, for example from git.") from None
    return data


def _check(data: object) -> None:
    """Raise ValueError for data that are none of a study, or have a path that leads out of results/."""
    parts = ("study", "results", "histories")
    if not isinstance(data, dict) or not all(isinstance(data.get(part), dict) for part in parts):
        raise ValueError(f"expected {', '.join(parts)}, each with names")
    for path in (*data["results"], *data["histories"]):
        if ".." in Path(path).parts or Path(path).parts[:1] != ("results",):
            raise ValueError(f"the path {path} is not below results/")
    if not is_name(data["study"].get("study")):
        raise ValueError("its study has no name")


def rebuild(published: Path, output: Path) -> list[Path]:
    """Make the tables, verdicts and numeric figures of a published study again, from its data alone, into `output`.

    Returns the files. They are those of the publication, but for pictures of models; and published PNGs have fewer
    colours. Raises InputError when the data were made by another version of the code than this one, and for an `output`
    in which there are files.
    """
    data, kept = read_data(published), published.resolve().parent
    if output == Path() or output.resolve() in kept.parents or kept in (output.resolve(), *output.resolve().parents):
        raise InputError(
            f"--output {output}: publications are there. Choose another folder, for example results/rebuilt."
        )
    make_folder(output)
    if any(output.iterdir()):
        raise InputError(
            f"--output {output}: found files in it, expected a new or an empty folder, because files of another study"
            " would stay among those that are made. Delete it, or choose another."
        )
    study = data["study"]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for path, facts in data["results"].items():
            write_json(root / path, facts)
        for path, text in data["histories"].items():
            history = root / beside(path, "history.csv")
            write_text(history, text)
            write_sums(history.parent, {file.name: sha256_of_file(file) for file in (root / path, history)})
        if "claims" in data:
            write_text(root / CLAIMS, data["claims"])
        try:
            _make_views(study, root, data.get("errors"))
        except InputError as error:
            reason = str(error).replace(f"{root}/", "")
            raise InputError(
                f"{published}: this version of the code cannot make its tables ({reason}). Use the commit that its"
                " manifest names."
            ) from None
        made = root / study_folder(study)
        files = sorted(path for path in made.rglob("*") if path.is_file() and "made_from" not in path.parts)
        for path in files:
            with whole_file(output / path.relative_to(made)) as part:
                shutil.copyfile(path, part)
        return [output / path.relative_to(made) for path in files]


def _make_views(study: dict, root: Path, errors: list[dict] | None) -> None:
    folder = root / study_folder(study)
    if study["tuning"]:
        from bvae.report.tuning import write_tuning

        write_tuning(study, folder, root)
        return
    from bvae.report.tables import write_tables

    write_tables(study, folder / "tables", root)
    if protocol_of(study) == 1:
        from bvae.report.claims import write_claims

        write_claims(study, root / CLAIMS, folder, root)
    else:
        from bvae.report.judged_tables import write_judgement

        write_judgement(study, folder, root, known=errors)
    _draw_numeric(study, root)


def _draw_numeric(study: dict, root: Path) -> None:
    from bvae.report.drawing import draw_one
    from bvae.report.figures import FIGURES, kinds_of
    from bvae.report.figures._page import DatasetFacts, find_subject

    plan = Plan(study, root)
    for group in plan.groups:
        rows = [read_json(root / path) for path in inputs_of(plan, "figures", group) if path.endswith(".json")]
        row = max(rows, key=lambda row: row["status"] == "finished")
        attributes = () if "probe_accuracy_per_attribute" in row else None
        facts = DatasetFacts(row["dataset"], row["dataset_sha256"], range(row["test_images"]), attributes)
        subject = find_subject(study, group["recipe"], facts, group["latent_dim"], root)
        for kind in kinds_of(study, recorded=True)["figures"]:
            draw_one(FIGURES[kind], subject, root / group["figures"] / kind)
