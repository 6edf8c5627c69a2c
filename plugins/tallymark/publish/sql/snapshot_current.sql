-- One row: everything that the page shows and that is in no part. Each list is a table.
with last_thresholds as (
    select * exclude (chunk_seq) from chunk_thresholds order by chunk_seq desc limit 1
),

largest_merchants as (
    select * from merchants order by transactions desc, merchant limit $merchants
),

nearest as (
    select * from snapshot.nearest
    where merchant in (select merchant from largest_merchants)
    qualify row_number() over (partition by pattern_id, merchant order by distance, customer) <= $nearest
),

chunks_with_rejected_rows as (
    select chunk_seq from raw.chunks
    where rows_rejected > 0
    order by chunk_seq desc
    limit $rejected_rows
),

rejected_rows as (
    select chunk_seq, importance_version, object_key, line_number, line[:500] as line, reason
    from raw.rejected_rows
    where
        chunk_seq >= (select min(chunk_seq) from chunks_with_rejected_rows)
        or importance_version = (select max(importance_version) from raw.importance_versions)
    order by chunk_seq desc nulls first, importance_version desc nulls last, object_key, line_number
    limit $rejected_rows
),

conflicts as (
    select * from raw.conflicts order by seen_at desc, chunk_key limit $rejected_rows
),

refusals as (
    select * from open_issues($published_at)
),

latest_refusals as (
    select * from refusals order by seen_at desc, kind, about limit $rejected_rows
),

importance_versions as (
    select * exclude (digest) from raw.importance_versions order by importance_version desc limit 20
)

select
    $published_at as published_at,
    $time_zone as time_zone,
    (select coalesce(max(file_number), 0) from output.files) as detection_files,
    (select count(*) from raw.conflicts) as conflict_count,
    (select count(*) from refusals) as refusal_count,
    (select count(*) from merchants) as merchant_count,
    (select list(last_thresholds) from last_thresholds) as thresholds,
    (select list(key order by kind, last_id) from snapshot.parts) as parts,
    (select list(ledger order by chunk_seq) from ledger_rows as ledger) as ledger,
    (select list(detections order by detection_id) from detections_rows as detections) as detections,
    (select list(merchants order by transactions desc, merchant) from largest_merchants as merchants) as merchants,
    (select list(nearest order by merchant, pattern_id, distance, customer) from nearest) as nearest,
    (select list(rejected_rows) from rejected_rows) as rejected_rows,
    (select list(conflicts) from conflicts) as conflicts,
    (select list(latest_refusals) from latest_refusals) as refusals,
    (select list(importance_versions) from importance_versions) as importance_versions
