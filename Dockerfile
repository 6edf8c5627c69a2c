FROM python:3.11-slim
ENV PYTHONUNBUFFERED=1 PYTHONPATH=/tallymark/plugins
# requirements.txt; for another TALLYMARK_ENGINE, requirements-spark.txt or requirements-databricks.txt; for Celery workers,
# requirements-celery.txt.
ARG REQUIREMENTS=requirements.txt
COPY ${REQUIREMENTS} requirements-docker.txt /tmp/
RUN pip install --no-cache-dir -r /tmp/${REQUIREMENTS} -r /tmp/requirements-docker.txt
# Volumes that are new take over whose these folders are.
RUN useradd --uid 10001 --create-home tallymark && install -d -o tallymark -g tallymark /data /logs /feed
WORKDIR /tallymark
COPY dags dags
COPY pyproject.toml ./
COPY plugins plugins
RUN pip install --no-cache-dir --no-deps --no-build-isolation -e .
COPY dbt_project dbt_project
# Containers cannot write here, and each task would compile it again.
RUN python -m compileall -q dags plugins
USER tallymark
