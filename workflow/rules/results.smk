# A study's tables and figures, and their publication.
TABLES = expand(f"{STUDY_FOLDER}/tables/table1.{{suffix}}", suffix=["csv", "tex", "html", "json"])
FIGURES = []
