# Published weights, for the extractors of the study that need some: `features: [classifier]` asks for none.
WEIGHTS = {
    name: EXTRACTORS[name].weights.path
    for name in STUDY["features"]
    if EXTRACTORS[name].weights
}
EXTRACTOR_OF = {
    Path(found.weights.path).name: name
    for name, found in EXTRACTORS.items()
    if found.weights
}


rule weights:
    output:
        "resources/weights/{weights}",
    log:
        "logs/weights/{weights}.log",
    conda:
        ENVIRONMENT
    params:
        extractor=lambda wildcards: EXTRACTOR_OF[wildcards.weights],
    shell:
        "python -m bvae weights {params.extractor} --log {log:q}"
