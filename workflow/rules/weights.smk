# Inception's weights, for `fid` alone: a study with `features: [classifier]` never asks for them.
INCEPTION = (
    [bvae.protocol.INCEPTION_WEIGHTS] if "inception" in STUDY["features"] else []
)


rule inception_weights:
    output:
        bvae.protocol.INCEPTION_WEIGHTS,
    log:
        "logs/weights/inception.log",
    benchmark:
        "results/benchmarks/weights/inception.tsv"
    retries: 2
    conda:
        "../../environment.yml"
    shell:
        "python -m bvae weights --output {output:q} --log {log:q}"
