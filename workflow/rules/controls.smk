# Once a data set: the real side of the distances, and what a model must beat.
REFERENCE = reference_path("{dataset}", "{extractor}")
DISTANCES = distances_path("{dataset}", "{extractor}")
CONTROLS = controls_path("{dataset}")
PCA = pca_path("{dataset}", "{latent_dim}")


rule reference:
    input:
        data=DATA,
        stamp=stamp(REFERENCE),
        weights=lambda wildcards: WEIGHTS.get(wildcards.extractor, []),
    output:
        REFERENCE,
    log:
        "logs/references/{dataset}-{extractor}.log",
    priority: 1  # evaluation waits for it
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        gpu=GPU_OF_TURNS,
        gpu_turns=1,
        mem_mb=memory(4000, copies=4),
        runtime=minutes(120),
    shell:
        "python -m bvae reference {wildcards.dataset}-{wildcards.extractor} --log {log:q}"


rule distortions:
    input:
        data=DATA,
        reference=REFERENCE,
        stamp=stamp(DISTANCES),
        weights=lambda wildcards: WEIGHTS.get(wildcards.extractor, []),
    output:
        DISTANCES,
    log:
        "logs/controls/{dataset}/distances-{extractor}.log",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        gpu=GPU_OF_TURNS,
        gpu_turns=1,
        mem_mb=memory(4000, copies=4),
        runtime=minutes(120),
    shell:
        "python -m bvae distortions {wildcards.dataset}-{wildcards.extractor} --log {log:q}"


rule controls:
    input:
        DATA,
        stamp=stamp(CONTROLS),
    output:
        CONTROLS,
    log:
        "logs/controls/{dataset}/controls.log",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory(6000, copies=8),
        runtime=minutes(240),
    shell:
        "python -m bvae controls {wildcards.dataset} --log {log:q}"


rule pca:
    input:
        DATA,
        stamp=stamp(PCA),
    output:
        PCA,
    log:
        "logs/controls/{dataset}/pca{latent_dim}.log",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory(6000, copies=8),
        runtime=minutes(240),
    shell:
        "python -m bvae pca {wildcards.dataset}-pca{wildcards.latent_dim} --log {log:q}"


rule untrained:
    input:
        DATA,
        stamp=stamp(
            "results/untrained/{recipe}/{dataset}-z{latent_dim}-seed{seed}.json"
        ),
    output:
        "results/untrained/{recipe}/{dataset}-z{latent_dim}-seed{seed}.json",
    log:
        "logs/untrained/{recipe}/{dataset}-z{latent_dim}-seed{seed}.log",
    conda:
        ENVIRONMENT
    threads: threads_of
    resources:
        study=STUDY_FILE,
        gpu=GPU_OF_TURNS,
        gpu_turns=1,
        mem_mb=memory(4000, copies=4),
        runtime=minutes(120),
    shell:
        "python -m bvae untrained {resources.study:q} {output:q} --log {log:q}"
