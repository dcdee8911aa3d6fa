"""An RO-Crate of a published study: `ro-crate-metadata.json`, which repositories of research data read."""

import json
import mimetypes
from datetime import UTC, datetime
from pathlib import Path

import bvae
from bvae.errors import InputError
from bvae.report.publication import CRATE, read_manifest, refuse_changed
from bvae.report.published_data import DATA_FILE
from bvae.system.files import sha256_of_file, write_text

TEXTS = {
    ".tex": "application/x-tex",
    ".md": "text/markdown",
    ".csv": "text/csv",
    ".json": "application/json",
    ".gz": "application/gzip",
}
PARTS = {"tables": "table", "figures": "figure", "models": "weights"}  # by folder
KINDS = {"manifest.json": "hashes of files and runs", DATA_FILE: "all data of the tables"}  # by name
PAPER = "https://arxiv.org/abs/2505.16074"
LICENCE = "https://spdx.org/licenses/MIT"


def write_crate(published: Path) -> None:
    """Write `ro-crate-metadata.json` into the folder of a published study, for the files of its manifest.

    RO-Crate 1.3 (https://w3id.org/ro/crate/1.3): each file with its type and SHA-256, the code and the data behind them
    as the action that made them, the paper as a citation. Needs the package rocrate. Raises InputError when `published`
    holds no manifest, or a file is not the one that was published.
    """
    try:
        from rocrate.model import ContextEntity
        from rocrate.rocrate import ROCrate
    except ImportError:
        raise InputError("rocrate is not installed, and RO-Crates need it. Run: pip install rocrate") from None
    manifest = read_manifest(published)
    refuse_changed(published)
    facts = manifest["provenance"]
    crate = ROCrate()

    def context(place: str, kind: str, **properties: object) -> ContextEntity:
        return crate.add(ContextEntity(crate, place, properties={"@type": kind, **properties}))

    crate.name = facts["config"].get("title") or manifest["study"]
    arms = sorted({arm for block in facts["config"]["blocks"] for arm in block["arms"]})
    crate.description = (
        f"Tables and figures of the study {manifest['study']}, version {manifest.get('version', 1)}, of the BVAE"
        f" benchmark: {len(manifest['runs'])} runs of {', '.join(arms)} on {', '.join(sorted(facts['data_sha256']))}."
    )
    crate.license = context(LICENCE, "CreativeWork", name="MIT License", description="Any use, with this notice kept.")
    crate.datePublished = datetime.now(UTC).date().isoformat()
    crate.publisher = context("#contributors", "Organization", name="The BVAE benchmark contributors")
    if "id" in facts:
        crate.root_dataset["identifier"] = context("#id", "PropertyValue", propertyID="table id", value=facts["id"])
    crate.root_dataset["citation"] = context(PAPER, "ScholarlyArticle", name="Bidirectional Variational Autoencoders")
    files = [
        crate.add_file(published / name, name, properties=_describe(published, name, digest))
        for name, digest in (manifest["files"] | {"manifest.json": sha256_of_file(published / "manifest.json")}).items()
    ]
    code = context("#code", "CreativeWork", name="The BVAE benchmark", version=bvae.__version__)
    code["description"] = f"at commit {facts['commit']}"
    data = [
        context(f"#data-{name}", "CreativeWork", name=f"data set {name}", sha256=digest)
        for name, digest in facts["data_sha256"].items()
    ]
    action = {"name": "training and evaluation", "description": f"on {', '.join(facts['devices'])}"}
    crate.add_action(
        code, identifier="#study", object=data if len(data) > 1 else data[0], result=files, properties=action
    )
    write_text(published / CRATE, json.dumps(crate.metadata.generate(), indent=1) + "\n")


def _describe(published: Path, name: str, digest: str) -> dict[str, str]:
    path = published / name
    media_type = TEXTS.get(path.suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    kind = PARTS.get(Path(name).parts[0]) or KINDS.get(name) or "verdicts"
    return {
        "name": name,
        "description": f"{kind}: {path.stem}",
        "encodingFormat": media_type,
        "contentSize": str(path.stat().st_size),
        "sha256": digest,
    }
