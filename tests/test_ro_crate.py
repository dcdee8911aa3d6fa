"""The RO-Crate of a published study says of its files what the manifest says; `make docs-check` validates it."""

import shutil
import sys
from pathlib import Path

import pytest
from rocrate.rocrate import ROCrate

from bvae.errors import InputError
from bvae.report.publication import newest
from bvae.report.ro_crate import write_crate
from bvae.system.files import read_json, sha256_of_file
from helpers.checkouts import ROOT


@pytest.fixture
def published(tmp_path) -> Path:
    folder = newest(ROOT / "results/published")["pilot_fashion"]
    return Path(shutil.copytree(folder, tmp_path / folder.name))


def test_a_crate_describes_every_file_and_what_made_it(published):
    write_crate(published)
    manifest, crate = read_json(published / "manifest.json"), ROCrate(published)
    files = {entity.id: entity for entity in crate.get_by_type("File")}
    assert set(files) - {"ro-crate-metadata.json"} == {*manifest["files"], "manifest.json"}
    for name, digest in manifest["files"].items():
        assert files[name]["sha256"] == digest
        assert files[name]["contentSize"] == str((published / name).stat().st_size)
    assert files["tables/table1.csv"]["encodingFormat"] == "text/csv"
    assert files["manifest.json"]["sha256"] == sha256_of_file(published / "manifest.json")
    assert crate.root_dataset["identifier"]["value"] == manifest["provenance"]["id"]
    assert "pilot_fashion, version 1," in crate.description and "10 runs of vae on fashion_mnist" in crate.description
    [action] = crate.get_by_type("CreateAction")
    assert {entity.id for entity in action["result"]} == {*manifest["files"], "manifest.json"}
    assert action["object"]["sha256"] == manifest["provenance"]["data_sha256"]["fashion_mnist"]
    assert action["instrument"]["description"] == f"at commit {manifest['provenance']['commit']}"


def test_a_file_that_is_not_the_published_one_is_refused(published):
    (published / "claims.csv").write_text("claim,verdict\n")
    with pytest.raises(InputError, match=r"claims\.csv: not the file that was published"):
        write_crate(published)
    assert not (published / "ro-crate-metadata.json").exists()


def test_a_folder_without_a_manifest_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"manifest\.json: no such file\. Wanted the folder of a published study"):
        write_crate(tmp_path)


def test_without_rocrate_it_says_how_to_get_it(published, monkeypatch):
    monkeypatch.setitem(sys.modules, "rocrate.model", None)
    with pytest.raises(InputError, match=r"pip install rocrate"):
        write_crate(published)
