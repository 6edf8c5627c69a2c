FROM python:3.11-slim
ENV PYTHONUNBUFFERED=1 PYTHONPATH=/tallymark/plugins
# For another TALLYMARK_ENGINE: requirements-spark.txt or requirements-databricks.txt. For Celery workers:
# requirements-celery.txt.
ARG REQUIREMENTS=requirements.txt
COPY ${REQUIREMENTS} requirements-docker.txt /tmp/
RUN pip install --no-cache-dir -r /tmp/${REQUIREMENTS} -r /tmp/requirements-docker.txt
# New volumes inherit the owner of these folders.
RUN useradd --uid 10001 --create-home tallymark && install -d -o tallymark -g tallymark /data /logs /feed
WORKDIR /tallymark
COPY dags dags
COPY pyproject.toml ./
COPY plugins plugins
RUN pip install --no-cache-dir --no-deps --no-build-isolation -e .
COPY dbt_project dbt_project
# Containers are read-only, so each task would compile the code again.
RUN python -m compileall -q dags plugins
LABEL org.opencontainers.image.title=Tallymark org.opencontainers.image.version=0.1.0 \
    org.opencontainers.image.licenses=Apache-2.0
USER tallymark
