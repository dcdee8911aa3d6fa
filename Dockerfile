# The suite and its locked versions, for machines with a GPU and the NVIDIA container toolkit. Not built or run by us yet.
#
#     docker build -t bvae .
#     docker run --gpus all -v "$PWD/results:/bvae/results" -v "$PWD/resources:/bvae/resources" bvae
FROM python:3.11-slim
RUN apt-get update && apt-get install -y --no-install-recommends git make && rm -rf /var/lib/apt/lists/*
WORKDIR /bvae
COPY requirements.lock .
RUN pip install --no-cache-dir -r requirements.lock
COPY . .
ENTRYPOINT ["snakemake"]
