# A study's tables and figures, and their publication.
STUDY_LOGS = f"logs/studies/{STUDY['study']}"
SUFFIXES = ["csv", "tex", "html", "json"]
TABLES = [
    f"{STUDY_FOLDER}/tables/{name}.{suffix}"
    for name in ["table1", "table2", "table3", "runs"]
    for suffix in SUFFIXES
]
CLAIMS = [f"{STUDY_FOLDER}/claims.{suffix}" for suffix in [*SUFFIXES, "md"]]
KINDS = [  # of figures
    kind
    for kind, figure in KINDS_OF_FIGURES.items()
    if figure.arm is None or any(run["arm"] == figure.arm for run in RUNS)
]
DIAGRAMS = [kind for kind in KINDS if KINDS_OF_FIGURES[kind].network]
FIGURES = [
    path.format(**group | {"recipe": recipe})
    for group in GROUPS
    for kind in KINDS
    for recipe in [
        Path(group["network"]).parts[2] if kind in DIAGRAMS else group["recipe"]
    ]
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
    output:
        [table_file(path) for path in TABLES],
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
        claims=os.path.relpath(ROOT / "config/claims.yaml"),  # results that move with it are not made again
    output:
        [table_file(path) for path in CLAIMS],
    log:
        f"{STUDY_LOGS}/claims.log",
    conda:
        ENVIRONMENT
    params:
        study=STUDY_FILE,
    shell:
        "python -m bvae claims {params.study:q} --claims {input.claims:q} --log {log:q}"


# Many kinds in one job, because they are drawn sooner than torch is imported; the slow ones beside it.
SLOW = [kind for kind in KINDS if KINDS_OF_FIGURES[kind].slow]
QUICKLY_DRAWN = [kind for kind in KINDS if kind not in [*SLOW, *DIAGRAMS]]


rule figures:
    input:
        data=DATA,
        runs=lambda wildcards: results_of(
            run
            for run in RUNS
            if (run["recipe"], run["dataset"], str(run["latent_dim"]))
            == (wildcards.recipe, wildcards.dataset, wildcards.latent_dim)
        ),
    output:
        figures_of(QUICKLY_DRAWN),
    log:
        f"{STUDY_LOGS}/figures-{FIGURE}.log",
    conda:
        ENVIRONMENT
    params:
        study=STUDY_FILE,
        names=names_of_figures(QUICKLY_DRAWN),
    shell:
        "python -m bvae figure {params.study:q} {params.names} --log {log:q}"


use rule figures as slow_figures with:
    output:
        figures_of(SLOW),
    log:
        f"{STUDY_LOGS}/slow_figures-{FIGURE}.log",
    params:
        study=STUDY_FILE,
        names=names_of_figures(SLOW),


# Once a network on a data set, whatever studies train it.
rule diagrams:
    input:
        DATA,
    output:
        figures_of(DIAGRAMS),
    log:
        "logs/networks/{recipe}/{dataset}-z{latent_dim}.log",
    conda:
        ENVIRONMENT
    resources:
        study=STUDY_FILE,
    params:
        network=network_of,
        names=names_of_figures(DIAGRAMS),
    shell:
        "python -m bvae figure {resources.study:q} {params.names} --log {log:q}"


rule tuning:
    input:
        results_of(RUNS),
    output:
        [table_file(path) for path in TUNING],
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
