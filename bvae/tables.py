"""Table 1 of a study: data set by arm, mean and spread over seeds, with the controls and the provenance beside it."""

import hashlib
import json
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import pandas as pd

import bvae
from bvae import protocol
from bvae.config import control_paths, expand_runs, run_folder
from bvae.files import InputError, read_json, write_json, write_text

ARM_NAMES = {"bvae": "BVAE", "bvae_gain": "BVAE + gain", "vae": "VAE", "vae_narrow": "VAE narrow"}
CONTROL_NAMES = {
    "untrained": "untrained encoder",
    "raw_pixels": "raw pixels",
    "mean_image": "mean image",
    "real_images": "real images",
}

# Metric, header of the printed table, decimals, factor. All are in the csv; those with a header are printed.
METRICS = (
    ("parameters", "Parameters", 0, 1),
    ("model_mb", "Model MB", 2, 1),
    ("reconstruction", "Reconstruction ↓", 2, 1),
    ("elbo", "ELBO ↑", 2, 1),
    ("kl", None, 2, 1),
    ("mse_per_pixel", None, 5, 1),
    ("psnr", None, 2, 1),
    ("ssim", None, 4, 1),
    (f"nll_k{max(protocol.NLL_SAMPLES)}", None, 2, 1),
    ("kl_bits_per_pixel", None, 4, 1),
    ("active_units", None, 1, 1),
    *(
        (f"{distance}_{what}", header if what == "samples" else None, 2, 1)
        for distance, header in (("fid", "FID ↓"), ("fd_classifier", "FD classifier ↓"))
        for what in ("samples", "mixture_samples", "reconstructions", "interpolations")
    ),
    ("probe_accuracy", "Probe % ↑", 2, 100),
    ("knn_accuracy", None, 2, 100),
    ("trustworthiness", None, 4, 1),
)
HTML_STYLES = [
    {"selector": "", "props": "border-collapse: collapse; font: 14px sans-serif"},
    {"selector": "caption", "props": "text-align: left; font-weight: bold; padding: 6px 0"},
    {"selector": "th, td", "props": "padding: 4px 10px; border-bottom: 1px solid #ddd; text-align: left"},
    {"selector": "thead th", "props": "border-bottom: 2px solid #444"},
]
UNFLAT = ("empty", "kl_per_latent", "variance_per_latent")  # of metrics.json, left out of runs.csv
GROUP = ["dataset", "recipe", "latent_dim"]
PACKAGES = ("torch", "torchvision", "torch-fidelity", "scikit-learn", "pandas", "numpy", "scipy")


def collect_runs(study: dict, root: Path = Path()) -> list[dict]:
    """Read the metrics of every run of a checked study, in the study's order.

    Raises InputError that names every run whose recorded settings, data or version are not the study's.
    """
    rows, stale = [], []
    data_hashes: dict[str, str] = {}
    for run in expand_runs(study):
        path = root / run_folder(**run)
        row = read_json(path / "metrics.json")
        rows.append(row)
        if {key: row.get(key) for key in run} != run or row.get("settings") != study["recipes"][run["recipe"]]:
            stale.append(f"{path}: its recorded settings differ from the study's")
        elif (row["training_version"], row["evaluation_version"]) != (bvae.TRAINING_VERSION, bvae.EVALUATION_VERSION):
            stale.append(f"{path}: another version of the code made it")
        elif data_hashes.setdefault(row["dataset"], row["dataset_sha256"]) != row["dataset_sha256"]:
            stale.append(f"{path}: it saw other data than the runs before it")
    if stale:
        raise InputError("\n".join(["Stale results; delete these folders and run `snakemake` again:", *stale]))
    return rows


def summarise(rows: list[dict]) -> pd.DataFrame:
    """One line per (data set, recipe, latent dim, arm): n, diverged, and mean and `_sd` of each metric over the seeds.

    The spread is the standard deviation with n - 1, empty for one seed. A diverged run counts in `diverged`, not in n.
    """
    names = [name for name, *_ in METRICS if any(name in row for row in rows)]
    lines = []
    for key, group in pd.DataFrame(rows).groupby([*GROUP, "arm"], sort=False):
        finished = group[group["status"] == "finished"]
        line = dict(zip([*GROUP, "arm"], key, strict=True))
        line |= {"n": len(finished), "diverged": len(group) - len(finished)}
        for name in names:
            values = pd.to_numeric((group if name in ("parameters", "model_mb") else finished).get(name))
            line[name] = values.mean()
            if name not in ("parameters", "model_mb"):
                line[f"{name}_sd"] = values.std(ddof=1)
        lines.append(line)
    return pd.DataFrame(lines)


def control_rows(study: dict, rows: list[dict], root: Path = Path()) -> pd.DataFrame:
    """The lines that every arm must beat: untrained encoder, raw pixels, mean image; and real images' own distance."""
    lines = []
    for paths in control_paths(study):
        group = {key: paths[key] for key in GROUP}
        run = next(row for row in rows if all(row[key] == group[key] for key in GROUP))
        untrained, controls = read_json(root / paths["untrained"]), read_json(root / paths["controls"])
        mean_image = controls[f"mean_image_log_likelihood_{run['likelihood']}"]
        floors = {
            f"{name}_samples": run[f"{name}_floor"] for name in ("fid", "fd_classifier") if f"{name}_floor" in run
        }
        for name, values in (
            ("untrained", {"probe_accuracy": untrained["probe_accuracy"]}),
            ("raw_pixels", {"probe_accuracy": controls["probe_accuracy_raw_pixels"]}),
            ("mean_image", {"reconstruction": -mean_image, "elbo": mean_image}),
            ("real_images", floors),
        ):
            if any(value is not None for value in values.values()):
                lines.append(group | {"arm": name, "n": 1, "diverged": 0} | values)
    return pd.DataFrame(lines)


def table1(study: dict, rows: list[dict], root: Path = Path()) -> pd.DataFrame:
    """Table 1 at full precision: each group's arms, then its controls."""
    arms, controls = summarise(rows), control_rows(study, rows, root)
    parts = []
    for key, group in arms.groupby(GROUP, sort=False):
        same = (controls[GROUP] == list(key)).all(axis=1)
        parts += [group, controls[same]]
    return pd.concat(parts, ignore_index=True)


def printed(table: pd.DataFrame) -> pd.DataFrame:
    """Table 1 as text: rounded, mean ± standard deviation, a dash where a cell is empty."""
    shown = [metric for metric in METRICS if metric[1] is not None and metric[0] in table]
    several = {key: table[key].nunique() > 1 for key in ("recipe", "latent_dim")}
    lines = []
    for _, row in table.iterrows():
        control = row["arm"] in CONTROL_NAMES
        line = {"Data set": row["dataset"]}
        line |= {header: row[key] for key, header in (("recipe", "Recipe"), ("latent_dim", "Latents")) if several[key]}
        line["Arm"] = CONTROL_NAMES.get(row["arm"]) or ARM_NAMES[row["arm"]]
        line["n"] = "" if control else f"{row['n']}" + (f" ({row['diverged']} diverged)" if row["diverged"] else "")
        for name, header, decimals, factor in shown:
            spread = row.get(f"{name}_sd")
            if pd.isna(row[name]):
                line[header] = "" if control else "–"
            elif pd.isna(spread):
                line[header] = f"{row[name] * factor:,.{decimals}f}"
            else:
                line[header] = f"{row[name] * factor:,.{decimals}f} ± {spread * factor:.{decimals}f}"
        lines.append(line)
    return pd.DataFrame(lines)


def notes(study: dict, rows: list[dict]) -> list[str]:
    """What a reader must know to read the table, one sentence each; empty cells with their reason."""
    images = sorted({(row["dataset"], row["test_images"]) for row in rows})
    lines = [
        "Mean ± standard deviation over n seeds, on the test images ("
        + ", ".join(f"{name}: {count:,}" for name, count in images)
        + "). Settings are ours; those of the paper are not available.",
        "Reconstruction is -E_q[ln p(x|z)], ELBO the (B)ELBO at beta 1: nats per image, summed over pixels,"
        f" {protocol.ELBO_SAMPLES} samples of z an image. On grey pixels the Bernoulli terms are bounds by convention,"
        " not likelihoods.",
        "Probe: logistic regression on posterior means, C chosen on held-out training images. Lines below the arms are"
        " controls: the untrained encoder and raw pixels (probe), the mean training image (as one image for all).",
    ]
    for name, text in (
        ("fid", "FID: Inception features"),
        (
            "fd_classifier",
            "FD classifier: features of a small network"
            " trained here on the data set's training images; comparable only within a data set",
        ),
    ):
        counts = sorted({row[f"{name}_images"] for row in rows if row.get(f"{name}_samples") is not None})
        if counts:
            lines.append(
                f"{text}; Fréchet distance of n = {', '.join(f'{count:,}' for count in counts)} prior samples against"
                " as many test images. Real images: as many training images against the same."
            )
    reasons = {
        f"{row['dataset']}, {metric}: empty because {reason}."
        for row in rows
        for metric, reason in row["empty"].items()
    }
    devices = {(row["device"], row["precision"]) for row in rows}
    lines.append("Computed on " + "; ".join(f"{device}, {precision}" for device, precision in sorted(devices)) + ".")
    return lines + sorted(reasons)


def provenance(study: dict, rows: list[dict]) -> dict:
    """Where the numbers come from: code, config, data, versions, devices, seeds, protocol."""
    constants = {name.lower(): value for name, value in vars(protocol).items() if name.isupper()}
    return {
        "study": study["study"],
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain", "--", ":/", ":(exclude,top)results")),
        "config": study,
        "config_sha256": hashlib.sha256(json.dumps(study, sort_keys=True).encode()).hexdigest(),
        "data_sha256": {row["dataset"]: row["dataset_sha256"] for row in rows},
        "training_version": bvae.TRAINING_VERSION,
        "evaluation_version": bvae.EVALUATION_VERSION,
        "versions": {"bvae": bvae.__version__, "python": platform.python_version()}
        | {package: version(package) for package in PACKAGES},
        "trained_with": sorted({json.dumps(row["versions"], sort_keys=True) for row in rows}),
        "devices": sorted({row["device"] for row in rows}),
        "precisions": sorted({row["precision"] for row in rows}),
        "seeds": sorted({row["seed"] for row in rows}),
        "runs": len(rows),
        "diverged": sum(row["status"] != "finished" for row in rows),
        "protocol": constants,
    }


def _git(*arguments: str) -> str | None:
    """What git says of the checkout that this package stands in, or None outside one."""
    folder = Path(__file__).parent
    try:
        return subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def write_tables(study: dict, folder: Path, root: Path = Path()) -> None:
    """Write table1.{csv,tex,html,json} and runs.csv (one row a run) of a study into `folder`."""
    rows = collect_runs(study, root)
    table = table1(study, rows, root)
    text, remarks = printed(table), notes(study, rows)
    facts = provenance(study, rows)
    caption = f"{study['title'] or study['study']}: reconstruction, generation and classification by arm."
    write_text(folder / "table1.csv", table.to_csv(index=False, lineterminator="\n"))
    write_text(folder / "table1.tex", _to_latex(text, caption, remarks, facts))
    write_text(folder / "table1.html", _to_html(text, caption, remarks, study["study"]))
    records = json.loads(table.to_json(orient="records", double_precision=15))
    write_json(folder / "table1.json", {"provenance": facts, "notes": remarks, "rows": records})
    flat = [{key: value for key, value in row.items() if key not in UNFLAT} for row in rows]
    write_text(folder / "runs.csv", pd.json_normalize(flat).to_csv(index=False, lineterminator="\n"))


def _to_latex(text: pd.DataFrame, caption: str, remarks: list[str], facts: dict) -> str:
    signs = {sign: f"\\{sign}" for sign in "&%$#_{}"} | {"\\": r"\textbackslash{}", "–": "--"}
    signs |= {"±": r"$\pm$", "↓": r"$\downarrow$", "↑": r"$\uparrow$"}
    escape = str.maketrans(signs)

    def tex(value: object) -> str:
        return str(value).translate(escape)

    shown = text.map(tex).rename(columns=tex)
    shown["Data set"] = shown["Data set"].mask(shown["Data set"].duplicated(), "")
    words = list(text).index("Arm") + 1
    body = shown.style.hide(axis="index").to_latex(
        hrules=True, column_format="l" * words + "r" * (len(shown.columns) - words)
    )
    head = f"% bvae {bvae.__version__}, commit {facts['commit']}, config {facts['config_sha256'][:12]}"
    foot = "".join(f"% {remark}\n" for remark in remarks)
    return f"{head}\n% \\usepackage{{booktabs}}. Caption: {caption}\n{body}{foot}"


def _to_html(text: pd.DataFrame, caption: str, remarks: list[str], study: str) -> str:
    right = [column for column in text if column not in ("Data set", "Recipe", "Arm")]
    style = (
        text.style.hide(axis="index")
        .set_uuid(f"{study}-table1")
        .set_caption(caption)
        .set_table_styles(HTML_STYLES)
        .set_table_styles(
            {column: [{"selector": "", "props": "text-align: right; white-space: nowrap"}] for column in right},
            overwrite=False,
        )
        .to_html(doctype_html=True)
    )
    listed = "".join(f"<p>{remark}</p>" for remark in remarks)
    foot = f'<div style="font: 12px sans-serif; max-width: 60em; color: #333">{listed}</div>'
    return style.replace("</body>", f"{foot}\n</body>")
