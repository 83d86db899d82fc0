# Target `app` (the last, so the default) runs web, workers and migrations; `provider` is the simulated model service.

FROM python:3.12-slim AS base
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# The folder for uploaded files is there before the volume is, so that the volume starts with its owner.
RUN useradd --system --uid 10001 --home-dir /app --no-create-home batchyard \
    && install -d -o batchyard -g batchyard /var/lib/batchyard/files
WORKDIR /app

FROM base AS provider
COPY requirements/local.txt requirements/
RUN pip install --quiet --require-hashes -r requirements/local.txt
COPY local local
USER batchyard
EXPOSE 8001
CMD ["python", "-m", "local.provider", "--host", "0.0.0.0", "--port", "8001"]

FROM base AS app
COPY requirements/run.txt requirements/
RUN pip install --quiet --require-hashes -r requirements/run.txt
COPY common common
COPY migrations migrations
COPY web web
COPY worker worker
COPY wsgi.py worker.py plans.toml ./
COPY local/prices.toml local/prices.toml
USER batchyard
VOLUME /var/lib/batchyard/files
EXPOSE 8000
CMD ["gunicorn", "-c", "web/gunicorn.py", "wsgi:app"]
