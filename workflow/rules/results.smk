# A study's tables and figures, and their publication.
STUDY_LOGS = f"logs/studies/{STUDY['study']}"
TABLES = files_of(STUDY, "table")
CLAIMS = files_of(STUDY, "claims")
TUNING = files_of(STUDY, "tuning")
# Of protocol 1. By protocol 2 a study registers its claims itself.
CLAIMS_OF_ALL = [CLAIMS_FILE] if protocol_of(STUDY) == 1 else []
CLAIMS_OPTION = f"--claims {shlex.quote(CLAIMS_FILE)}" if CLAIMS_OF_ALL else ""
FIGURES = [
    path
    for group in GROUPS
    for rule_of in kinds_of(STUDY, recorded=RECORDED)
    for path in files_of(STUDY, rule_of, group, recorded=RECORDED)
]
RESULTS = TUNING if STUDY["tuning"] else [*TABLES, *CLAIMS, *FIGURES]


localrules:
    table,
    claims,
    tuning,
    publish,


rule table:
    input:
        results_of(RUNS),
        controls_of("table"),
        distances_of(STUDY),
        stamp=stamp(made_from_path(STUDY, "table")),
    output:
        [table_file(path) for path in TABLES],
        made_from_path(STUDY, "table"),
    log:
        f"{STUDY_LOGS}/tables.log",
    conda:
        ENVIRONMENT
    resources:
        study=STUDY_FILE,
    shell:
        "python -m bvae table {resources.study:q} --log {log:q}"


rule claims:
    input:
        results_of(RUNS),
        controls_of("claims") if CLAIMS_OF_ALL else [],
        claims=CLAIMS_OF_ALL,
        stamp=stamp(made_from_path(STUDY, "claims")),
    output:
        [table_file(path) for path in CLAIMS],
        made_from_path(STUDY, "claims"),
    log:
        f"{STUDY_LOGS}/claims.log",
    conda:
        ENVIRONMENT
    resources:
        study=STUDY_FILE,
    params:
        claims=CLAIMS_OPTION,
    shell:
        "python -m bvae claims {resources.study:q} {params.claims} --log {log:q}"


# Many kinds in one job, because they are drawn sooner than torch is imported; the slow ones beside it.
rule figures:
    input:
        data=DATA,
        runs=runs_of_figures,
        stamp=stamp(made_from_path(STUDY, "figures", ANY_GROUP)),
    output:
        figures_of("figures"),
        made_from_path(STUDY, "figures", ANY_GROUP),
    log:
        f"{STUDY_LOGS}/figures/{FIGURE}.log",
    conda:
        ENVIRONMENT
    resources:
        study=STUDY_FILE,
    params:
        names=names_of_figures("figures"),
    shell:
        "python -m bvae figure {resources.study:q} {params.names} --log {log:q}"


use rule figures as slow_figures with:
    input:
        data=DATA,
        runs=runs_of_figures,
        stamp=stamp(made_from_path(STUDY, "slow_figures", ANY_GROUP)),
    output:
        figures_of("slow_figures"),
        made_from_path(STUDY, "slow_figures", ANY_GROUP),
    log:
        f"{STUDY_LOGS}/slow_figures/{FIGURE}.log",
    params:
        names=names_of_figures("slow_figures"),


# Once a network on a data set, whatever studies train it.
rule diagrams:
    input:
        DATA,
        stamp=stamp(made_from_path(STUDY, "diagrams", ANY_GROUP)),
    output:
        figures_of("diagrams"),
        made_from_path(STUDY, "diagrams", ANY_GROUP),
    log:
        "logs/networks/{recipe}/{dataset}-z{latent_dim}.log",
    conda:
        ENVIRONMENT
    resources:
        study=STUDY_FILE,
    params:
        names=names_of_figures("diagrams"),
    shell:
        "python -m bvae figure {resources.study:q} {params.names} --log {log:q}"


rule tuning:
    input:
        results_of(RUNS),
        stamp=stamp(made_from_path(STUDY, "tuning")),
    output:
        [table_file(path) for path in TUNING],
        made_from_path(STUDY, "tuning"),
    log:
        f"{STUDY_LOGS}/tuning.log",
    conda:
        ENVIRONMENT
    resources:
        study=STUDY_FILE,
    shell:
        "python -m bvae tuning {resources.study:q} --log {log:q}"


rule publish:
    input:
        RESULTS,
        claims=CLAIMS_OF_ALL,
        stamp=stamp(f"{publication(STUDY)}/manifest.json"),  # always newer: whoever asks for it wants it now
    output:
        # not deleted before the job: it says which runs are published already
        update(f"{publication(STUDY)}/manifest.json"),
    log:
        f"{STUDY_LOGS}/publish.log",
    conda:
        ENVIRONMENT
    resources:
        study=STUDY_FILE,
    params:
        claims=CLAIMS_OPTION,
    shell:
        "python -m bvae publish {resources.study:q} {params.claims} --log {log:q}"
