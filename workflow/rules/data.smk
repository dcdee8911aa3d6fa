# The published data sets of datasets.yaml. Those of your own are in datasets/.
rule data:
    input:
        stamp=stamp(DATA),
    output:
        DATA,
    log:
        "logs/data/{dataset}.log",
    wildcard_constraints:
        dataset="|".join(PUBLISHED),
    conda:
        ENVIRONMENT
    params:
        options=fetch_options,
    shell:
        "python -m bvae fetch {params.options:q} --name {wildcards.dataset} --output {output:q} --log {log:q}"
