# 28x28 grey articles of clothing in 10 classes, 50,000 + 10,000. MIT. Fashion-MNIST's training images alone, to choose settings on.
rule data_fashion_mnist_validation:
    output:
        "resources/data/fashion_mnist_validation.safetensors",
    log:
        "logs/data/fashion_mnist_validation.log",
    benchmark:
        "results/benchmarks/data/fashion_mnist_validation.tsv"
    retries: 2
    conda:
        "../../../environment.yml"
    params:
        source="torchvision:FashionMNIST",
        sha256="22430ae38e058831623ee6b065b59a4585ad90079d14c4c3c0cf9c0f6cc0ff12",
    shell:
        "python -m bvae fetch {params.source:q} --name fashion_mnist_validation --sha256 {params.sha256} --validation 10000"
        " --output {output:q} --log {log:q}"
