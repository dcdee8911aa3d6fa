# One run: train it, then evaluate it. Evaluation has a priority: on a GPU, the CPU then evaluates while other runs train,
# and a study that is stopped has whole runs.
METRICS = f"{RUN}/metrics-{{metrics}}.json"
PER_IMAGE = [per_image_path(METRICS)] if protocol_of(STUDY) == 2 else []


rule train:
    input:
        DATA,
        stamp=stamp(f"{RUN}/model.safetensors"),
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
        folder=subpath(output[0], parent=True),
    shell:
        "python -m bvae train {resources.study:q} {params.folder:q} --log {log:q}"


rule validate:
    input:
        data=DATA,
        model=f"{RUN}/model.safetensors",
        stamp=stamp(f"{RUN}/validation.json"),
    output:
        f"{RUN}/validation.json",
    log:
        "logs/validate/{recipe}/{dataset}/{arm}-z{latent_dim}-seed{seed}.log",
    priority: 1
    conda:
        ENVIRONMENT
    threads: threads_of
    resources:
        study=STUDY_FILE,
        gpu=GPU_OF_TURNS,
        gpu_turns=1,
        mem_mb=memory(4000, copies=4),
        runtime=minutes(60),
    shell:
        "python -m bvae evaluate {resources.study:q} {output:q} --log {log:q}"


rule evaluate:
    input:
        data=DATA,
        model=f"{RUN}/model.safetensors",
        stamp=stamp(f"{RUN}/metrics-{{metrics}}.json"),
        references=[reference_path("{dataset}", name) for name in STUDY["features"]],
        weights=list(WEIGHTS.values()),
    output:
        # not deleted before the job, which computes only what the versions of its tasks ask for
        metrics=update(METRICS),
        per_image=[update(path) for path in PER_IMAGE],
    log:
        "logs/evaluate/{recipe}/{dataset}/{arm}-z{latent_dim}-seed{seed}-{metrics}.log",
    priority: 1
    conda:
        ENVIRONMENT
    threads: threads_of
    resources:
        study=STUDY_FILE,
        gpu=GPU_OF_TURNS,
        gpu_turns=1,
        mem_mb=memory(4000, copies=4),
        runtime=minutes(240),
    shell:
        "python -m bvae evaluate {resources.study:q} {output.metrics:q} --log {log:q}"
