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
        held_out = {"validation": entry.get("validation")}
        sources[name] = {"source": said_of_source(entry["source"], held_out)}
        sources[name] |= {"sha256": entry["sha256"]} if "sha256" in entry else {}
    for made_by in workflow.rules:
        for path in map(Path, made_by.output):
            if str(path) in OWN_DATA:
                place = str(made_by.snakefile)
                sources[path.stem] = read_rule(command_of(made_by), path, place)
    return {name: sources.get(name, {}) for name in NAMES}


# Snakemake does not say it before the plan is made.
REPORTS_ONLY = "--report" in sys.argv and "--report-after-run" not in sys.argv

if workflow.is_main_process:
    NAMES = dict.fromkeys(run["dataset"] for run in RUNS)
    SHAPES = {
        name: entry["shape"] for name, entry in PUBLISHED.items() if "shape" in entry
    }
    OWN_DATA = [data_path(name) for name in NAMES if name not in PUBLISHED]
    try:
        SOURCES = sources_of_data()
        # where a rule cannot be read, it is not known before the data set is there
        check_tuning(
            STUDY,
            [
                name
                for name in NAMES
                if "--validation" in SOURCES[name].get("source", "--validation")
            ],
        )
        PLAN = made_from.Plan(STUDY, claims=CLAIMS_FILE)
        CONTENT = made_from.results_of(PLAN, SOURCES)
        OUTDATED = comparison.outdated(PLAN, CONTENT)
        if REPORTS_ONLY:
            known = comparison.outdated(PLAN, CONTENT, known_only=True)
            comparison.refuse_to_report(known)
        comparison.refuse_own_data(OUTDATED, OWN_DATA)
        comparison.refuse_records(OUTDATED)
        comparison.refuse_layouts(PLAN, SHAPES)
    except InputError as error:
        raise WorkflowError(str(error)) from None
    comparison.warn_of_unread(
        [path for path in OWN_DATA if not SOURCES[Path(path).stem]]
    )
    comparison.tell_shared_widths(STUDY)
    comparison.tell_outdated(OUTDATED)
    comparison.tell_left_over(PLAN, CONTENT)
    comparison.set_times_right(CONTENT, OUTDATED)
    # a publication is made when it is asked for, whatever is there
    ASKED_FOR = {f"{publication(STUDY)}/manifest.json": "is asked for"}
    set_stamps([*(result.path for result in CONTENT), *ASKED_FOR], OUTDATED | ASKED_FOR)
