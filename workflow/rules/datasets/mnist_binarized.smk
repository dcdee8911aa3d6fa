# 28x28 digits in black or white in 10 classes, 50,000 + 10,000. CC BY-SA 3.0. MNIST, each pixel drawn by a fixed seed.
rule data_mnist_binarized:
    output:
        "resources/data/mnist_binarized.safetensors",
    log:
        "logs/data/mnist_binarized.log",
    benchmark:
        "results/benchmarks/data/mnist_binarized.tsv"
    retries: 2
    conda:
        "../../../environment.yml"
    params:
        source="mnist_binarized",
        sha256="0af89da785e4a8f4a21c4dca3846adcb9feec68e6b6a3f48f66213d41586dc2b",
    shell:
        "python -m bvae fetch {params.source:q} --name mnist_binarized --sha256 {params.sha256}"
        " --output {output:q} --log {log:q}"
