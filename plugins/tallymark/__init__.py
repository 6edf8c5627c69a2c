"""Tallymark turns chunks of transactions in S3 into files of detections."""

__version__ = "0.1.0"
