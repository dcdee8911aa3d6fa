"""Any configuration ends in a plan, or in one message that names the keys at fault; never in a traceback."""

import copy
import re

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from bvae.study.config import ConfigError
from bvae.study.runs import expand_runs, group_paths, run_folders, run_name, training_settings
from bvae.system.files import read_yaml
from helpers.checkouts import snakemake
from helpers.studies import STUDIES, check, sound

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
SOUND = [sound(), *map(read_yaml, STUDIES)]  # read once: reading takes longer than the check


def places(node: object, path: tuple = ()) -> list[tuple]:
    """Every place in a document, as the keys and indices that lead there."""
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path, *(place for key, child in children for place in places(child, (*path, key)))]


@st.composite
def configs(draw) -> object:
    """A shipped study, or a small one, with a few places replaced, removed, doubled or added to."""
    config = copy.deepcopy(draw(st.sampled_from(SOUND)))
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
                assert re.match(r"  - (top level|[^\n:]*): |  and \d+ more$", fault), fault
            planned.append(False)
            return
        runs = expand_runs(study)
        assert runs and len(group_paths(study)) <= len(runs)
        folders = run_folders(study)
        for run in runs:
            folder = folders[run_name(run)]
            assert re.fullmatch(r"results/runs/[a-z0-9_-]+-[0-9a-f]{8}/[a-z0-9_]+/\w+-z\d+-seed\d+", folder)
            assert training_settings(study["recipes"][run["recipe"]], run["arm"])["training"]["learning_rate"] > 0
        planned.append(True)

    judge()
    assert len(planned) >= 500
    assert 0.02 < sum(planned) / len(planned) < 0.9


def hostile_to_a_shell(config: dict) -> None:
    config["study"] = "x; touch pwned"


@pytest.mark.parametrize("spoil", [hostile_to_a_shell, dict.clear])
def test_snakemake_refuses_a_hostile_config_in_one_message(plan, spoil):
    """A part of them through Snakemake, which reads the file first; `dict.clear` stands for a list at the top."""
    config = sound()
    spoil(config)
    (plan / "config/hostile.yaml").write_text(yaml.safe_dump(config or [1], allow_unicode=True), encoding="utf-8")
    done = snakemake(plan, "-n", "--configfile", "config/hostile.yaml")
    assert done.returncode == 1, done.stdout[-2000:]
    assert "Traceback" not in done.stdout
    assert "config" in done.stdout.lower()
    assert not list(plan.rglob("pwned"))


HOSTILE = {
    "a name with a command": (lambda c: c["blocks"][0].update(datasets=["x; touch pwned"]), "datasets"),
    "a recipe with a path": (lambda c: c["recipes"].update({"../../up": c["recipes"].pop("plain")}), "recipes"),
    "a number for a key": (lambda c: c.update({3: 4}), "3"),
    "a number for the blocks": (lambda c: c.update(blocks=7), "blocks"),
    "nothing for the recipes": (lambda c: c.update(recipes=None), "recipes"),
    "a huge seed": (lambda c: c["blocks"][0].update(seeds=[10**30]), "seeds"),
    "not a number": (lambda c: c["recipes"]["plain"]["training"].update(learning_rate=float("nan")), "learning_rate"),
    "names of another alphabet": (lambda c: c["blocks"][0].update(arms=["бвае"]), "arms"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_config_is_refused_by_the_name_of_its_key(name):
    config = sound()
    spoil, key = HOSTILE[name]
    spoil(config)
    with pytest.raises(ConfigError, match=key):
        check(config)
