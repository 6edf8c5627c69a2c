"""The steps of the pipeline, as the DAGs, the replay and the tests call them."""

from tallymark.audit import AuditError, audit
from tallymark.build import BuildError, build
from tallymark.load import load_chunks
from tallymark.output import export_detections
from tallymark.work import unfinished_work, waiting_chunks

__all__ = [
    "AuditError",
    "BuildError",
    "audit",
    "build",
    "export_detections",
    "load_chunks",
    "unfinished_work",
    "waiting_chunks",
]
