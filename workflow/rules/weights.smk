# Inception's weights, for `fid` alone: a study with `features: [classifier]` never asks for them.
INCEPTION = (
    [bvae.evaluation.protocol.INCEPTION_WEIGHTS]
    if "inception" in STUDY["features"]
    else []
)


rule inception_weights:
    output:
        bvae.evaluation.protocol.INCEPTION_WEIGHTS,
    log:
        "logs/weights/inception.log",
    conda:
        ENVIRONMENT
    shell:
        "python -m bvae weights --output {output:q} --log {log:q}"
