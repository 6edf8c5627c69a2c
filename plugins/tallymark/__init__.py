"""Tallymark turns chunks of transactions in S3 into files of detections."""
