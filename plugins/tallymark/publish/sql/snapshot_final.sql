-- Up to which chunk and which detection nothing changes any more.
select
    coalesce(
        (select min(chunk_seq) - 1 from detections where file_number is null),
        (select max(chunk_seq) from output.releases),
        0
    ) as ledger,
    (select coalesce(max(last_detection_id), 0) from output.files where put_at is not null) as detections
