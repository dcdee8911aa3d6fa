# 28x28 grey characters without classes, 19,280 + 13,180. MIT. Lake et al., 2015. Published as 105x105, black on white;
# training: 30 background alphabets; test: 20 others, with no character in common, so that classification stays empty.
# Its SHA-256 is recorded here at the first fetch, whose log gives it.
rule data_omniglot:
    output:
        "resources/data/omniglot.safetensors",
    log:
        "logs/data/omniglot.log",
    benchmark:
        "results/benchmarks/data/omniglot.tsv"
    retries: 2
    conda:
        "../../../environment.yml"
    params:
        source="torchvision:Omniglot",
    shell:
        "python -m bvae fetch {params.source:q} --name omniglot"
        " --output {output:q} --log {log:q}"
