# Once a recipe, data set and latent dimension: what each arm costs. It takes every core, so that no other job runs.
rule cost:
    input:
        DATA,
        stamp=stamp("results/costs/{recipe}/{dataset}-z{latent_dim}.json"),
    output:
        # not deleted before the job: another study may have asked for other arms, which it keeps
        update("results/costs/{recipe}/{dataset}-z{latent_dim}.json"),
    log:
        "logs/costs/{recipe}/{dataset}-z{latent_dim}.log",
    conda:
        ENVIRONMENT
    threads: workflow.cores
    resources:
        study=STUDY_FILE,
        gpu=1,
        mem_mb=memory(4000, copies=4),
        runtime=minutes(60),
    shell:
        "python -m bvae cost {resources.study:q} {output:q} --log {log:q}"
