# The pipeline, the MLflow server and the Prefect server of compose.yaml: one image for all three.
FROM python:3.11-slim

RUN apt-get update \
    && apt-get install -y --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/* \
    && git config --system --add safe.directory /seqline \
    && mkdir -m 1777 /artifacts

# The environment is outside of /seqline, where compose.yaml mounts the checkout.
ENV PATH=/opt/venv/bin:$PATH HOME=/tmp DVC_NO_ANALYTICS=1 MLFLOW_DISABLE_TELEMETRY=true
WORKDIR /seqline

# Dependencies first: a change of the code does not install them again.
COPY constraints.txt pyproject.toml README.md LICENSE ./
RUN mkdir pipeline seqline stages \
    && touch pipeline/__init__.py seqline/__init__.py stages/__init__.py \
    && python -m venv /opt/venv \
    && pip install --no-cache-dir -c constraints.txt -e ".[postgres]"

COPY . .
CMD ["seqline", "run"]
