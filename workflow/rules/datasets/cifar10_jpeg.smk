# 32x32 colour photographs in 10 classes, 50,000 + 10,000. Research use. Lossy JPEGs of CIFAR-10, a zip that you place.
rule data_cifar10_jpeg:
    output:
        "resources/data/cifar10_jpeg.safetensors",
    log:
        "logs/data/cifar10_jpeg.log",
    benchmark:
        "results/benchmarks/data/cifar10_jpeg.tsv"
    conda:
        "../../../environment.yml"
    params:
        source="zip:cifar10_jpeg.zip",
        sha256="c8aeae1da835bc9fad9b34e74b95fb45323d1dca8a28bbef0499f8d6aef4b383",
    shell:
        "python -m bvae fetch {params.source:q} --name cifar10_jpeg --sha256 {params.sha256}"
        " --output {output:q} --log {log:q}"
