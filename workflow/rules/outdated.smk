# Every start compares the results with what they would be made from today: this comes after all rules.
from snakemake.utils import format as fill_in


def command_of(made_by):
    """The command that the job of a rule without wildcards will run; empty where Snakemake cannot say it yet."""
    try:
        asked = made_by.expand_input({})[0]
        output = made_by.expand_output({})[0]
        params = made_by.expand_params({}, asked, output, None)[0]
        known = dict(input=asked, output=output, params=params, log=made_by.log)
        return fill_in(
            made_by.shellcmd,
            **workflow.globals | known | {"threads": 1, "resources": {}},
        )
    except Exception:  # of any kind: it is the user's code
        return ""


def sources_of_data():
    """What its rule says of each data set."""
    sources = {}
    for name, entry in PUBLISHED.items():
        flags = as_flags({"validation": entry.get("validation")})
        sources[name] = {"source": " ".join([entry["source"], *flags])}
        sources[name] |= {"sha256": entry["sha256"]} if "sha256" in entry else {}
    for made_by in workflow.rules:
        for path in map(Path, made_by.output):
            if str(path) in OWN_DATA:
                place = str(made_by.snakefile)
                sources[path.stem] = read_rule(command_of(made_by), path, place)
    return sources


if workflow.is_main_process:
    # of this study, by their paths
    OWN_DATA = list(
        dict.fromkeys(
            data_path(run["dataset"]) for run in RUNS if run["dataset"] not in PUBLISHED
        )
    )
    CONTENTS = open_contents()
    try:
        SOURCES = sources_of_data()
        # of a rule that cannot be read it is not known before the data set is there
        unknown = {name: {"source": "--validation"} for name in DATASETS}
        check_tuning(
            STUDY,
            [
                name
                for name, said in (unknown | SOURCES).items()
                if "--validation" in said.get("source", "--validation")
            ],
        )
        CONTENT_OF_STUDY = results_of_study(STUDY, CONTENTS, CLAIMS_FILE, SOURCES)
        OUTDATED = outdated(CONTENT_OF_STUDY, CONTENTS)
        refuse_own_data(OUTDATED, OWN_DATA)
        warn_of_unread([path for path in OWN_DATA if not SOURCES.get(Path(path).stem)])
    except InputError as error:
        raise WorkflowError(str(error)) from None
    set_times_right(CONTENT_OF_STUDY, OUTDATED)
    ASKED_FOR = {f"{publication(STUDY)}/manifest.json": "is asked for"}
    set_stamps(
        [*(result.path for result in CONTENT_OF_STUDY), *ASKED_FOR],
        OUTDATED | ASKED_FOR,
    )
    tell_outdated(OUTDATED)
