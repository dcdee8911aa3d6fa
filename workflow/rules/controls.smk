# Once a data set: the real side of the distances, and what a model must beat.
SHARED = ["reconstruction", "classification"]  # tasks whose measures controls share


rule reference:
    input:
        data=DATA,
        weights=lambda wildcards: WEIGHTS.get(wildcards.extractor, []),
    output:
        "results/references/{dataset}-{extractor}.safetensors",
    log:
        "logs/references/{dataset}-{extractor}.log",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(4000, copies=4),
        runtime=minutes(120),
    params:
        version=lambda wildcards: EXTRACTORS[wildcards.extractor].version,
    shell:
        "python -m bvae reference --data {input.data:q} --extractor {wildcards.extractor}"
        " --weights {input.weights:q} --output {output:q} --log {log:q}"


rule controls:
    input:
        DATA,
    output:
        "results/controls/{dataset}.json",
    log:
        "logs/controls/{dataset}.log",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory(6000, copies=8),
        runtime=minutes(240),
    params:
        versions=versions(SHARED),
    shell:
        "python -m bvae controls --data {input:q} --output {output:q} --log {log:q}"


rule pca:
    input:
        DATA,
    output:
        "results/controls/{dataset}-pca{latent_dim}.json",
    log:
        "logs/controls/{dataset}-pca{latent_dim}.log",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory(6000, copies=8),
        runtime=minutes(240),
    params:
        versions=versions(SHARED),
    shell:
        "python -m bvae pca --data {input:q} --latent-dim {wildcards.latent_dim} --output {output:q} --log {log:q}"


rule untrained:
    input:
        DATA,
    output:
        "results/controls/{recipe}/{dataset}-z{latent_dim}-seed{seed}.json",
    log:
        "logs/controls/{recipe}/{dataset}-z{latent_dim}-seed{seed}.log",
    conda:
        ENVIRONMENT
    threads: threads_of
    resources:
        gpu=1,
        mem_mb=memory(4000, copies=4),
        runtime=minutes(120),
    params:
        recipe=name_of,
        settings=settings_of,
        versions=versions(SHARED),
    shell:
        "python -m bvae untrained --data {input:q} --recipe {params.recipe} --settings {params.settings:q}"
        " --latent-dim {wildcards.latent_dim} --seed {wildcards.seed} --output {output:q} --log {log:q}"
