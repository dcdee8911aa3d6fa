# Every start compares the results with what they would be made from today: this comes after all rules.
def sources_of_data():
    """What its rule says of each data set."""
    sources = {}
    for name, entry in PUBLISHED.items():
        flags = as_flags({"validation": entry.get("validation")})
        sources[name] = {"source": " ".join([entry["source"], *flags])}
        sources[name] |= {"sha256": entry["sha256"]} if "sha256" in entry else {}
    for found in workflow.rules:
        for path in map(Path, found.output):
            if str(path) in OWN_DATA:
                params = {k: v for k, v in found.params.items() if not callable(v)}
                sources[path.stem] = read_rule(
                    found.shellcmd or "", params, path, str(found.snakefile)
                )
    return sources


if workflow.is_main_process:
    OWN_DATA = [data_path(name) for name in DATASETS if name not in PUBLISHED]
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
    except InputError as error:
        raise WorkflowError(str(error)) from None
    set_stamps([result.path for result in CONTENT_OF_STUDY], OUTDATED)
    tell_outdated(OUTDATED)
