"""Tallymark: from a chunk of transactions in S3 to a file of detections."""
