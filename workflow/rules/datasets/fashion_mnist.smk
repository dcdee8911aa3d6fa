# 28x28 grey articles of clothing in 10 classes, 60,000 + 10,000. MIT. Zalando Research.
rule data_fashion_mnist:
    output:
        "resources/data/fashion_mnist.safetensors",
    log:
        "logs/data/fashion_mnist.log",
    benchmark:
        "results/benchmarks/data/fashion_mnist.tsv"
    retries: 2
    conda:
        "../../../environment.yml"
    params:
        source="torchvision:FashionMNIST",
        sha256="7445c314c5b4bfe406aceeee2307af7da68d7933b98f1c639d9aaf70131d2bde",
    shell:
        "python -m bvae fetch {params.source:q} --name fashion_mnist --sha256 {params.sha256}"
        " --output {output:q} --log {log:q}"
