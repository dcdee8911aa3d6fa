"""Any configuration ends in a plan, or in one message that names the keys at fault; never in a traceback."""

import copy
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from test_config import STUDIES, check, sound
from workflow_runner import make_checkout, snakemake

from bvae.config import ConfigError, expand_runs, group_paths, run_folder, training_settings
from bvae.files import read_yaml

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12) | st.sampled_from(
    ["digits", "plain", "x; touch pwned", "../up", "a b", "$(id)", "bvae", "null", "1e-3", "Ünïcödé", "{wildcard}", ""]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, -1, 2**31, 2**63, 10**30, 10**400])
    | st.floats()
    | TEXT
    | st.dates()
)
JUNK = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT | st.integers() | st.none(), inner, max_size=3),
    max_leaves=6,
)


def places(node: object, path: tuple = ()) -> list[tuple]:
    """Every place in a document, as the keys and indices that lead there."""
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path, *(place for key, child in children for place in places(child, (*path, key)))]


@st.composite
def configs(draw) -> object:
    """A shipped study, or a small one, with a few places replaced, removed, doubled or added to."""
    config = copy.deepcopy(draw(st.sampled_from([sound(), *map(read_yaml, STUDIES)])))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.sampled_from(places(config)))
        if not place:
            if draw(st.integers(0, 9)) == 0:
                return draw(JUNK)
            continue
        *parents, last = place
        node = config
        for key in parents:
            node = node[key]
        match draw(st.sampled_from(["replace", "remove", "double", "add", "rename"])):
            case "remove":
                del node[last]
            case "double" if isinstance(node, list):
                node.append(copy.deepcopy(node[last]))
            case "add" if isinstance(node, dict):
                node[draw(TEXT | st.integers())] = draw(JUNK)
            case "rename" if isinstance(node, dict):
                node[f"{last}{draw(TEXT)}"] = node.pop(last)
            case _:
                node[last] = draw(JUNK)
    return config


def test_600_configs_are_planned_or_refused_by_the_names_of_their_keys():
    """A sound study is planned, run by run; a fault is a line that begins with its place. Both ends are met."""
    planned = []

    @settings(
        max_examples=600,
        deadline=None,
        derandomize=True,  # the same configs every time
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(configs())
    def judge(config: object) -> None:
        try:
            study = check(config)
        except ConfigError as error:
            first, *faults = str(error).splitlines()
            assert re.fullmatch(r"The configuration has (1 fault|[2-9]\d* faults|1\d+ faults):", first)
            assert faults
            for fault in faults:
                assert re.match(r"  - (top level|[^\n:]*): ", fault), fault
            planned.append(False)
            return
        runs = expand_runs(study)
        assert runs and len(group_paths(study)) <= len(runs)
        for run in runs:
            assert re.fullmatch(r"results/runs/[a-z0-9_-]+/[a-z0-9_]+/\w+-z\d+-seed\d+", run_folder(**run))
            assert training_settings(study["recipes"][run["recipe"]], run["arm"])["training"]["learning_rate"] > 0
        planned.append(True)

    judge()
    assert len(planned) >= 500
    assert 0.02 < sum(planned) / len(planned) < 0.9


HOSTILE = {
    "a name with a command": lambda c: c["blocks"][0].update(datasets=["x; touch pwned"]),
    "a study with a command": lambda c: c.update(study="x; touch pwned"),
    "a recipe with a path": lambda c: c["recipes"].update({"../../up": c["recipes"].pop("plain")}),
    "a number for the blocks": lambda c: c.update(blocks=7),
    "nothing for the recipes": lambda c: c.update(recipes=None),
    "a number for a key": lambda c: c.update({3: 4}),
    "a huge seed": lambda c: c["blocks"][0].update(seeds=[10**30]),
    "not a number": lambda c: c["recipes"]["plain"]["training"].update(learning_rate=float("nan")),
    "names of another alphabet": lambda c: c["blocks"][0].update(arms=["бвае"]),
    "a list at the top": lambda c: c.clear(),
}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A checkout in which nothing has run."""
    return make_checkout(tmp_path_factory.mktemp("fuzzing"))


@pytest.mark.parametrize("name", HOSTILE)
def test_snakemake_refuses_a_hostile_config_in_one_message(checkout, name):
    config = sound()
    HOSTILE[name](config)
    path = checkout / "config/hostile.yaml"
    path.write_text(yaml.safe_dump(config or [1], allow_unicode=True), encoding="utf-8")
    done = snakemake(checkout, "-n", "--configfile", "config/hostile.yaml")
    assert done.returncode == 1, done.stdout[-2000:]
    assert "Traceback" not in done.stdout
    assert "config" in done.stdout.lower()
    assert not list(checkout.rglob("pwned"))
