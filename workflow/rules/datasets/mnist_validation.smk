# 28x28 grey digits in 10 classes, 50,000 + 10,000. CC BY-SA 3.0. MNIST's training images alone, to choose settings on.
rule data_mnist_validation:
    output:
        "resources/data/mnist_validation.safetensors",
    log:
        "logs/data/mnist_validation.log",
    benchmark:
        "results/benchmarks/data/mnist_validation.tsv"
    retries: 2
    conda:
        "../../../environment.yml"
    params:
        source="torchvision:MNIST",
        sha256="bf33bf6717887a5276caca1c82115e88983f94c41f39b8d79cc2e58b9dad5a0a",
    shell:
        "python -m bvae fetch {params.source:q} --name mnist_validation --sha256 {params.sha256} --validation 10000"
        " --output {output:q} --log {log:q}"
