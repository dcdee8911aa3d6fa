# 32x32 colour house numbers in 10 classes, 73,257 + 26,032. Non-commercial use only. Netzer et al., 2011.
# Its SHA-256 is recorded here at the first fetch, whose log gives it.
rule data_svhn:
    output:
        "resources/data/svhn.safetensors",
    log:
        "logs/data/svhn.log",
    benchmark:
        "results/benchmarks/data/svhn.tsv"
    retries: 2
    conda:
        "../../../environment.yml"
    params:
        source="torchvision:SVHN",
    shell:
        "python -m bvae fetch {params.source:q} --name svhn"
        " --output {output:q} --log {log:q}"
