# 28x28 grey cursive Japanese characters in 10 classes, 60,000 + 10,000. CC BY-SA 4.0. CODH, Clanuwat et al., 2018.
# Its SHA-256 is recorded here at the first fetch, whose log gives it.
rule data_kmnist:
    output:
        "resources/data/kmnist.safetensors",
    log:
        "logs/data/kmnist.log",
    benchmark:
        "results/benchmarks/data/kmnist.tsv"
    retries: 2
    conda:
        "../../../environment.yml"
    params:
        source="torchvision:KMNIST",
    shell:
        "python -m bvae fetch {params.source:q} --name kmnist"
        " --output {output:q} --log {log:q}"
