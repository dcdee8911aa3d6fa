# The benchmark: bare `snakemake` runs the paper's study. The rules are in workflow/.
include: "workflow/Snakefile"


rule default:
    default_target: True
    input:
        rules.all.input,
