"""The steps of the pipeline, as the DAGs, the replay and the tests call them."""

from tallymark import alerts
from tallymark.audit import AuditError, audit
from tallymark.build import BuildError, build
from tallymark.load import load_chunks
from tallymark.output import export_detections
from tallymark.report import explain_failure, report_dry_run, report_run
from tallymark.work import unfinished_work, waiting_chunks

__all__ = [
    "AuditError",
    "BuildError",
    "alerts",
    "audit",
    "build",
    "explain_failure",
    "export_detections",
    "load_chunks",
    "report_dry_run",
    "report_run",
    "unfinished_work",
    "waiting_chunks",
]
