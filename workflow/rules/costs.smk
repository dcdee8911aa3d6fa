# Once a recipe, data set and latent dimension: what each arm costs. It takes every core, so that no other job runs.
rule cost:
    input:
        DATA,
    output:
        "results/costs/{recipe}/{dataset}-z{latent_dim}/cost.json",
    log:
        "logs/costs/{recipe}/{dataset}-z{latent_dim}.log",
    conda:
        ENVIRONMENT
    threads: workflow.cores
    resources:
        gpu=1,
        mem_mb=memory(4000, copies=4),
        runtime=minutes(60),
    params:
        recipe=name_of,
        settings=settings_of,
        version=bvae.TRAINING_VERSION,
    shell:
        "python -m bvae cost --data {input:q} --recipe {params.recipe} --settings {params.settings:q}"
        " --latent-dim {wildcards.latent_dim} --seed 0 --output {output:q} --log {log:q}"
