# 32x32 colour photographs in 10 classes, 50,000 + 10,000. No licence stated, research use. Krizhevsky, 2009.
# Its SHA-256 is recorded here at the first fetch, whose log gives it.
rule data_cifar10:
    output:
        "resources/data/cifar10.safetensors",
    log:
        "logs/data/cifar10.log",
    benchmark:
        "results/benchmarks/data/cifar10.tsv"
    retries: 2
    conda:
        "../../../environment.yml"
    params:
        source="cifar10",
    shell:
        "python -m bvae fetch {params.source:q} --name cifar10"
        " --output {output:q} --log {log:q}"
