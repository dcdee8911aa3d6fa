# A study's tables and figures, and their publication.
STUDY_LOGS = f"logs/studies/{STUDY['study']}"
SUFFIXES = ["csv", "tex", "html", "json"]
TABLES = [
    f"{STUDY_FOLDER}/tables/{name}.{suffix}"
    for name in ["table1", "table2", "table3", "runs"]
    for suffix in SUFFIXES
]
CLAIMS = [f"{STUDY_FOLDER}/claims.{suffix}" for suffix in [*SUFFIXES, "md"]]
KINDS = kinds_of(STUDY)  # of figures, by the rule that draws them
FIGURES = [
    path.format(**group | {"recipe": recipe})
    for group in GROUPS
    for rule_of_kinds, kinds in KINDS.items()
    for recipe in [
        (
            Path(group["network"]).parts[2]
            if rule_of_kinds == "diagrams"
            else group["recipe"]
        )
    ]
    for kind in kinds
    for path in paths_of_figure(kind)
]
TUNING = [f"{STUDY_FOLDER}/tuning.{suffix}" for suffix in [*SUFFIXES, "svg", "png"]]
RESULTS = TUNING if STUDY["tuning"] else [*TABLES, *CLAIMS, *FIGURES]


localrules:
    table,
    claims,
    tuning,
    publish,


rule table:
    input:
        results_of(RUNS),
        [
            group[control]
            for group in GROUPS
            for control in ("untrained", "pca", "controls", "cost")
        ],
        stamp=stamp(made_from_path(STUDY, "table")),
    output:
        [table_file(path) for path in TABLES],
        made_from_path(STUDY, "table"),
    log:
        f"{STUDY_LOGS}/tables.log",
    conda:
        ENVIRONMENT
    params:
        study=STUDY_FILE,
    shell:
        "python -m bvae table {params.study:q} --log {log:q}"


rule claims:
    input:
        results_of(RUNS),
        [group["controls"] for group in GROUPS],
        claims=CLAIMS_FILE,
        stamp=stamp(made_from_path(STUDY, "claims")),
    output:
        [table_file(path) for path in CLAIMS],
        made_from_path(STUDY, "claims"),
    log:
        f"{STUDY_LOGS}/claims.log",
    conda:
        ENVIRONMENT
    params:
        study=STUDY_FILE,
    shell:
        "python -m bvae claims {params.study:q} --claims {input.claims:q} --log {log:q}"


# Many kinds in one job, because they are drawn sooner than torch is imported; the slow ones beside it.
def runs_of_figures(wildcards):
    place = (wildcards.recipe, wildcards.dataset, int(wildcards.latent_dim))
    return results_of(
        run
        for run in RUNS
        if (run["recipe"], run["dataset"], run["latent_dim"]) == place
    )


rule figures:
    input:
        data=DATA,
        runs=runs_of_figures,
        stamp=stamp(made_from_figures("figures")),
    output:
        figures_of(KINDS["figures"]),
        made_from_figures("figures"),
    log:
        f"{STUDY_LOGS}/figures/{FIGURE}.log",
    conda:
        ENVIRONMENT
    params:
        study=STUDY_FILE,
        names=names_of_figures(KINDS["figures"]),
    shell:
        "python -m bvae figure {params.study:q} {params.names} --log {log:q}"


use rule figures as slow_figures with:
    input:
        data=DATA,
        runs=runs_of_figures,
        stamp=stamp(made_from_figures("slow_figures")),
    output:
        figures_of(KINDS["slow_figures"]),
        made_from_figures("slow_figures"),
    log:
        f"{STUDY_LOGS}/slow_figures/{FIGURE}.log",
    params:
        study=STUDY_FILE,
        names=names_of_figures(KINDS["slow_figures"]),


# Once a network on a data set, whatever studies train it.
rule diagrams:
    input:
        DATA,
        stamp=stamp(made_from_figures("diagrams")),
    output:
        figures_of(KINDS["diagrams"]),
        made_from_figures("diagrams"),
    log:
        "logs/networks/{recipe}/{dataset}-z{latent_dim}.log",
    conda:
        ENVIRONMENT
    resources:
        study=STUDY_FILE,
    params:
        names=names_of_figures(KINDS["diagrams"]),
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
    params:
        study=STUDY_FILE,
    shell:
        "python -m bvae tuning {params.study:q} --log {log:q}"


rule publish:
    input:
        RESULTS,
    output:
        # not deleted before the job: it says which runs are published already
        update(f"{publication(STUDY)}/manifest.json"),
    log:
        f"{STUDY_LOGS}/publish.log",
    conda:
        ENVIRONMENT
    params:
        study=STUDY_FILE,
    shell:
        "python -m bvae publish {params.study:q} --log {log:q}"
