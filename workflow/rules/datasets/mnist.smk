# 28x28 grey digits in 10 classes, 60,000 + 10,000. CC BY-SA 3.0. LeCun, Cortes and Burges.
rule data_mnist:
    output:
        "resources/data/mnist.safetensors",
    log:
        "logs/data/mnist.log",
    benchmark:
        "results/benchmarks/data/mnist.tsv"
    retries: 2
    conda:
        "../../../environment.yml"
    params:
        source="torchvision:MNIST",
        sha256="baee883a4285cdb143c0a43d15206b25a8d09ee968262cb4cb1192748876d202",
    shell:
        "python -m bvae fetch {params.source:q} --name mnist --sha256 {params.sha256}"
        " --output {output:q} --log {log:q}"
