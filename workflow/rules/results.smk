# A study's tables and figures, and their publication.
STUDY_JSON = json.dumps(STUDY, sort_keys=True)
STUDY_LOGS = f"logs/studies/{STUDY['study']}"
STUDY_BENCHMARKS = f"results/benchmarks/studies/{STUDY['study']}"
GROUPS = group_paths(STUDY)
SUFFIXES = ["csv", "tex", "html", "json"]
TABLES = [
    f"{STUDY_FOLDER}/tables/{name}.{suffix}"
    for name in ["table1", "table2", "table3", "runs"]
    for suffix in SUFFIXES
]
CLAIMS = [
    *[f"{STUDY_FOLDER}/claims.{suffix}" for suffix in ["csv", "md", "html"]],
    *[f"{STUDY_FOLDER}/tables/table4.{suffix}" for suffix in SUFFIXES],
]
FIGURE = "{kind}-{recipe}-{dataset}-z{latent_dim}"
FIGURES = [
    f"{STUDY_FOLDER}/figures/{FIGURE.format(kind=kind, **group)}.{suffix}"
    for kind in bvae.FIGURES
    for group in GROUPS
    for suffix in ["svg", "png"]
]


localrules:
    table,
    claims,
    publish,


rule table:
    input:
        metrics_of(RUNS),
        [
            group[control]
            for group in GROUPS
            for control in ("untrained", "pca", "controls", "cost")
        ],
    output:
        [
            report(
                path,
                caption=f"../report/{Path(path).stem}.rst",
                category="Tables",
                labels={"table": Path(path).stem, "format": Path(path).suffix[1:]},
            )
            for path in TABLES
        ],
    log:
        f"{STUDY_LOGS}/tables.log",
    benchmark:
        f"{STUDY_BENCHMARKS}/tables.tsv"
    conda:
        "../../environment.yml"
    params:
        study=STUDY_JSON,
        folder=subpath(output[0], parent=True),
    shell:
        "python -m bvae table --study {params.study:q} --output {params.folder:q} --log {log:q}"


rule claims:
    input:
        metrics_of(RUNS),
        [group["controls"] for group in GROUPS],
        claims=ROOT / "config/claims.yaml",
    output:
        report(CLAIMS, caption="../report/claims.rst", category="Claims"),
    log:
        f"{STUDY_LOGS}/claims.log",
    benchmark:
        f"{STUDY_BENCHMARKS}/claims.tsv"
    conda:
        "../../environment.yml"
    params:
        study=STUDY_JSON,
        folder=subpath(output[0], parent=True),
    shell:
        "python -m bvae claims --study {params.study:q} --claims {input.claims:q} --output {params.folder:q}"
        " --log {log:q}"


rule figure:
    input:
        data=DATA,
        runs=lambda wildcards: metrics_of(
            run
            for run in RUNS
            if (run["recipe"], run["dataset"], str(run["latent_dim"]))
            == (wildcards.recipe, wildcards.dataset, wildcards.latent_dim)
        ),
    output:
        report(
            multiext(f"{STUDY_FOLDER}/figures/{FIGURE}", ".svg", ".png"),
            caption="../report/figure.rst",
            category="Figures",
            subcategory="{dataset}",
            labels={"figure": "{kind}", "latent dim": "{latent_dim}"},
        ),
    log:
        f"{STUDY_LOGS}/{FIGURE}.log",
    benchmark:
        f"{STUDY_BENCHMARKS}/{FIGURE}.tsv"
    conda:
        "../../environment.yml"
    params:
        study=STUDY_JSON,
        stem=subpath(output[0], strip_suffix=".svg"),
    shell:
        "python -m bvae figure {wildcards.kind} --study {params.study:q} --data {input.data:q}"
        " --recipe {wildcards.recipe} --latent-dim {wildcards.latent_dim} --output {params.stem:q} --log {log:q}"


rule publish:
    input:
        TABLES,
        CLAIMS,
        FIGURES,
    output:
        f"results/published/{STUDY['study']}/manifest.json",
    log:
        f"{STUDY_LOGS}/publish.log",
    benchmark:
        f"{STUDY_BENCHMARKS}/publish.tsv"
    conda:
        "../../environment.yml"
    params:
        study=STUDY_JSON,
        folder=subpath(output[0], parent=True),
    shell:
        "python -m bvae publish --study {params.study:q} --output {params.folder:q} --log {log:q}"
