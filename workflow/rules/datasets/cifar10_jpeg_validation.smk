# 32x32 colour photographs in 10 classes, 40,000 + 10,000. Research use. The training images alone of cifar10_jpeg, to choose settings on.
rule data_cifar10_jpeg_validation:
    output:
        "resources/data/cifar10_jpeg_validation.safetensors",
    log:
        "logs/data/cifar10_jpeg_validation.log",
    benchmark:
        "results/benchmarks/data/cifar10_jpeg_validation.tsv"
    conda:
        "../../../environment.yml"
    params:
        source="zip:cifar10_jpeg.zip",
        sha256="495c7d6ab9e3a3549e3cef64ea63d03743f0be5bc5cd70963dee6877594658ff",
    shell:
        "python -m bvae fetch {params.source:q} --name cifar10_jpeg_validation --sha256 {params.sha256} --validation 10000"
        " --output {output:q} --log {log:q}"
