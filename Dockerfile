# The command glade in a container, for a CPU or an NVIDIA GPU. Nothing is fetched at run time: it works without network.
#   docker build -t glade .
#   docker build -t glade:cuda --build-arg TORCH=cu130 .
#   docker run --rm --network none --user "$(id -u):$(id -g)" -v "$PWD:/data" glade -i scan.nii.gz -o OUT
#   docker run --rm --network none --gpus all ... glade:cuda -i scan.nii.gz -o OUT
# Written without a container builder at hand; tests/contracts/test_containers.py checks what can be checked without one.
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS build
# cpu, or the CUDA version of PyTorch's own wheels, as cu130; those of a GPU take 5 GB more
ARG TORCH=cpu
WORKDIR /src
RUN python -m venv /opt/glade
COPY requirements.lock ./
# torch first and alone, since its builds are on an index of its own
RUN /opt/glade/bin/pip install --no-cache-dir --index-url "https://download.pytorch.org/whl/${TORCH}" \
    "$(grep '^torch==' requirements.lock)"
COPY pyproject.toml README.md LICENSE ./
COPY configs configs
COPY docs/data_license.txt docs/data_license.txt
COPY glade glade
COPY models models
COPY scripts scripts
RUN /opt/glade/bin/pip install --no-cache-dir --constraint requirements.lock ".[train,evaluate,stacks,formats]"

FROM python:${PYTHON}-slim
LABEL org.opencontainers.image.title="GLADE" \
    org.opencontainers.image.description="Isotropic volumes from thick-slice MRI; research only, not a medical device" \
    org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/glade /opt/glade
RUN useradd --create-home --uid 1000 glade
# Any user may run it, as --user says, so what libraries keep for themselves goes to a folder that all can write to
ENV PATH="/opt/glade/bin:${PATH}" \
    MPLCONFIGDIR=/tmp/matplotlib \
    PYTHONDONTWRITEBYTECODE=1
USER 1000
WORKDIR /data
ENTRYPOINT ["glade"]
CMD ["--help"]
