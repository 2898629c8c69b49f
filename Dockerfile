# Shapeline with Dask and S3. CPU: docker build -t shapeline . — CUDA: docker build -t shapeline --build-arg ACCELERATOR=cuda .
FROM python:3.11-slim-bookworm

# cpu: torch's CPU build. cuda: the build of PyPI, which brings the CUDA libraries (several gigabytes).
ARG ACCELERATOR=cpu
# Optional packages, as in pyproject.toml: dask, ray, s3, quantization, iree, stacks.
ARG EXTRAS=dask,s3

# g++ builds custom ops from their sources. Its version is that of the base image's Debian release.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends g++ \
 && rm -rf /var/lib/apt/lists/*

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1

# The packages have a layer of their own, which stays when only sources change.
COPY requirements.lock /tmp/
RUN case "$ACCELERATOR" in \
      cpu) set -- --extra-index-url https://download.pytorch.org/whl/cpu ;; \
      cuda) set -- ;; \
      *) echo "ACCELERATOR=$ACCELERATOR: use cpu or cuda" >&2; exit 1 ;; \
    esac \
 && pip install "$@" -r /tmp/requirements.lock

COPY . /tmp/shapeline
RUN pip install -c /tmp/requirements.lock "/tmp/shapeline[$EXTRAS]" \
 && rm -rf /tmp/shapeline

# The state folder holds the key that seals records and the password of Prefect's server: keep it in a volume.
RUN useradd --create-home --uid 1000 shapeline \
 && install -d -o shapeline -g shapeline /work /state /copies
ENV SHAPELINE_STATE=/state SHAPELINE_COPIES=/copies DO_NOT_TRACK=1 PREFECT_SERVER_ANALYTICS_ENABLED=false
USER 1000
WORKDIR /work
VOLUME ["/work", "/state", "/copies"]
CMD ["shapeline", "doctor"]
