# syntax=docker/dockerfile:1
# One image for every role: `lso api`, `lso worker`, or `lso up` with a Redis of its own.

FROM python:3.13-slim AS build
RUN python -m venv /opt/lso
COPY requirements.lock .
RUN /opt/lso/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes --no-deps -r requirements.lock \
    && /opt/lso/bin/pip uninstall --yes pip \
    && find /opt/lso -depth -type d \( -name tests -o -name test -o -name __pycache__ \) -exec rm -rf {} +
# The kernels are compiled here; the image itself has no compiler.
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev
COPY lso_core /build/lso_core
RUN PYTHONPATH=/build /opt/lso/bin/python -m lso_core.compute.native.build

FROM python:3.13-slim
LABEL org.opencontainers.image.title="LSO, the Living Systems Observatory" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --system --uid 10001 --user-group --home-dir /data --no-create-home lso \
    && install --directory --owner lso --group lso --mode 0700 /data
COPY --from=build /opt/lso /opt/lso
WORKDIR /app
COPY lso_core lso_core
COPY api api
COPY worker worker
COPY LICENSE ./
RUN printf '#!/bin/sh\nexec /opt/lso/bin/python -P -m lso_core.cli.lso "$@"\n' >/usr/local/bin/lso && chmod 0755 /usr/local/bin/lso \
    && PYTHONPATH=/app /opt/lso/bin/python -m compileall -q /app /opt/lso/lib
ENV PATH=/opt/lso/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    LSO_HOST=0.0.0.0 \
    LSO_DATA_DIR=/data \
    LSO_LOG_FORMAT=json
USER lso
VOLUME /data
EXPOSE 8000
# SIGTERM drains: no new connections, requests under way are answered, workers give their leases back.
STOPSIGNAL SIGTERM
# For roles that listen; compose.yaml gives the worker one of its own.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f\"http://127.0.0.1:{os.environ.get('LSO_PORT') or 8000}/readyz\", timeout=2)"]
ENTRYPOINT ["lso"]
CMD ["up"]
