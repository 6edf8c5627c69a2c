create or replace temp table ledger_rows as
with chunks as (
    select * from raw.chunks
    where chunk_seq > $first and chunk_seq <= $last
),

rejected_files as (
    select chunk_seq, file_key as rejected_file
    from output.files
    where chunk_seq > $first and chunk_seq <= $last
),

made as (
    select
        detections.chunk_seq,
        count(*) as detections,
        max(files.put_at) as put_at
    from detections
    left join output.files on detections.file_number = files.file_number
    where detections.chunk_seq > $first and detections.chunk_seq <= $last
    group by detections.chunk_seq
),

first_errors as (
    select
        chunk_seq,
        min_by(format('line {}: {}', line_number, reason), (object_key, line_number)) as first_error
    from raw.rejected_rows
    where chunk_seq > $first and chunk_seq <= $last
    group by chunk_seq
),

final as (
    select
        chunks.*,
        coalesce(made.detections, 0) as detections,
        coalesce(made.put_at, releases.released_at) as out_at,
        coalesce(chunks.reason, first_errors.first_error) as first_error,
        rejected_files.rejected_file
    from chunks
    left join made on chunks.chunk_seq = made.chunk_seq
    left join first_errors on chunks.chunk_seq = first_errors.chunk_seq
    left join rejected_files on chunks.chunk_seq = rejected_files.chunk_seq
    asof left join output.releases on chunks.chunk_seq <= releases.chunk_seq
)

select * from final order by chunk_seq
