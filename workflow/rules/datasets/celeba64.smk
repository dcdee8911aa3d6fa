# 64x64 colour faces with 40 attributes, 162,770 + 19,962. Non-commercial research only. Liu et al., 2015.
# Its SHA-256 is recorded here at the first fetch, whose log gives it.
rule data_celeba64:
    output:
        "resources/data/celeba64.safetensors",
    log:
        "logs/data/celeba64.log",
    benchmark:
        "results/benchmarks/data/celeba64.tsv"
    retries: 2
    conda:
        "../../../environment.yml"
    params:
        source="celeba64",
    shell:
        "python -m bvae fetch {params.source:q} --name celeba64"
        " --output {output:q} --log {log:q}"
