-- Landing-to-file time, one row per chunk. `out_at` is when the last file with one of its detections was put or, if the
-- chunk has no detections, when it was released; null before that. `seconds` is the landing-to-file time.
create or replace temp view landing_to_file as
with detections_by_chunk as (
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
    coalesce(detections_by_chunk.detections, 0) as detections,
    coalesce(detections_by_chunk.put_at, releases.released_at) as out_at,
    epoch(out_at - chunks.landed_at) as seconds
from raw.chunks
left join detections_by_chunk on chunks.chunk_seq = detections_by_chunk.chunk_seq
asof left join output.releases on chunks.chunk_seq <= releases.chunk_seq;
