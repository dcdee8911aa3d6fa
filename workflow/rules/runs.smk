# One run: train, then evaluate.
rule train:
    input:
        DATA,
    output:
        f"{RUN}/model.safetensors",
        f"{RUN}/history.csv",
    log:
        "logs/train/{recipe}/{dataset}/{arm}-z{latent_dim}-seed{seed}.log",
    conda:
        ENVIRONMENT
    threads: threads_of
    resources:
        study=STUDY_FILE,
        gpu=1,
        mem_mb=memory(4000, copies=4),
        runtime=minutes(720),
    params:
        settings=settings_of,
        folder=subpath(output[0], parent=True),
        version=bvae.TRAINING_VERSION,
    shell:
        "python -m bvae train {resources.study:q} {params.folder:q} --log {log:q}"


rule validate:
    input:
        data=DATA,
        model=f"{RUN}/model.safetensors",
    output:
        f"{RUN}/validation.json",
    log:
        "logs/validate/{recipe}/{dataset}/{arm}-z{latent_dim}-seed{seed}.log",
    conda:
        ENVIRONMENT
    threads: threads_of
    resources:
        study=STUDY_FILE,
        gpu=1,
        mem_mb=memory(4000, copies=4),
        runtime=minutes(60),
    params:
        versions=versions(tasks_of("finished", tuning=True)),
    shell:
        "python -m bvae evaluate {resources.study:q} {output:q} --log {log:q}"


rule evaluate:
    input:
        data=DATA,
        model=f"{RUN}/model.safetensors",
        references=expand(
            "results/references/{{dataset}}-{extractor}.safetensors",
            extractor=STUDY["features"],
        ),
        weights=list(WEIGHTS.values()),
    output:
        # not deleted before the job, which computes only what the versions of its tasks ask for
        update(f"{RUN}/metrics-{{metrics}}.json"),
    log:
        "logs/evaluate/{recipe}/{dataset}/{arm}-z{latent_dim}-seed{seed}-{metrics}.log",
    conda:
        ENVIRONMENT
    threads: threads_of
    resources:
        study=STUDY_FILE,
        gpu=1,
        mem_mb=memory(4000, copies=4),
        runtime=minutes(240),
    params:
        importance=importance_of,
        versions=versions(TASKS),
    shell:
        "python -m bvae evaluate {resources.study:q} {output:q} --log {log:q}"
