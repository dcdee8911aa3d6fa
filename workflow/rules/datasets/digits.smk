# 8x8 grey digits in 10 classes, 1,437 + 360. CC BY 4.0. UCI, as shipped with scikit-learn.
rule data_digits:
    output:
        "resources/data/digits.safetensors",
    log:
        "logs/data/digits.log",
    benchmark:
        "results/benchmarks/data/digits.tsv"
    conda:
        "../../../environment.yml"
    params:
        source="sklearn:digits",
        sha256="9de8ae8277e4ecaa3e22101f24902af0ca598c586fb8a991b61de380d8e802f1",
    shell:
        "python -m bvae fetch {params.source:q} --name digits --sha256 {params.sha256}"
        " --output {output:q} --log {log:q}"
