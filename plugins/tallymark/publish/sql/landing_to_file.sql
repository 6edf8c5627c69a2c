-- When the detections of each chunk were out: when the last file with one of them was put or, if the chunk has none,
-- when it was released; null before that. `seconds` is the landing-to-file time.
create or replace temp view landing_to_file as
with made as (
    select
        detections.chunk_seq,
        count(*) as detections,
        max(files.put_at) as put_at
    from detections
    left join output.files on detections.file_number = files.file_number
    group by detections.chunk_seq
)

select
    chunks.chunk_seq,
    chunks.chunk_key,
    chunks.state,
    coalesce(made.detections, 0) as detections,
    coalesce(made.put_at, releases.released_at) as out_at,
    epoch(out_at - chunks.landed_at) as seconds
from raw.chunks
left join made on chunks.chunk_seq = made.chunk_seq
asof left join output.releases on chunks.chunk_seq <= releases.chunk_seq;
