# 28x28 grey letters and digits in 47 classes, 112,800 + 18,800: the split "balanced", upright. No licence stated. NIST.
# Its SHA-256 is recorded here at the first fetch, whose log gives it.
rule data_emnist:
    output:
        "resources/data/emnist.safetensors",
    log:
        "logs/data/emnist.log",
    benchmark:
        "results/benchmarks/data/emnist.tsv"
    retries: 2
    conda:
        "../../../environment.yml"
    params:
        source="torchvision:EMNIST",
    shell:
        "python -m bvae fetch {params.source:q} --name emnist"
        " --output {output:q} --log {log:q}"
