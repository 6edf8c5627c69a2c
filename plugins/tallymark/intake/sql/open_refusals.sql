-- What was refused and is still to be put right, as of a moment: what kind, what about, and a sentence. Alerts, the
-- page and the notes of runs go by it. seen_at is when it was refused last; rejected_file has a chunk's reason.
create or replace temp macro open_refusals(moment) as table
with rejected_chunks as (
    select
        'rejected chunk' as kind,
        chunk_key as about,
        arg_max(reason, chunk_seq) || '. Put a corrected object under the same key.' as message,
        max(loaded_at) as seen_at,
        max(chunk_seq) as chunk_seq
    from raw.chunks
    where state = 'rejected' and chunk_key not in (select chunk_key from raw.chunks where state = 'accepted')
    group by chunk_key
),

rejected_importance as (
    select
        'rejected customer importance' as kind,
        'version ' || importance_version as about,
        reason || '. The last good version stays in force.' as message,
        loaded_at as seen_at
    from raw.importance_versions
    where state = 'rejected' and loaded_at = (select max(loaded_at) from raw.importance_versions)
),

conflicts as (
    select
        'conflict' as kind,
        chunk_key as about,
        'was taken before and now has ETag ' || arg_max(etag, seen_at)
        || '. Its new content is not counted. If it holds other transactions, put them under a new key.' as message,
        max(seen_at) as seen_at
    from raw.conflicts
    where seen_at > moment - interval 1 day
    group by chunk_key
),

waiting_chunks as (
    select
        'waiting chunk' as kind,
        input_key as about,
        'S3 refuses it and answers for others; it is tried again. ' || reason as message,
        last_failed_at as seen_at
    from raw.unreadable_inputs
    where last_failed_at > moment - interval 1 day and input_key not in (select chunk_key from raw.chunks)
),

refusals as (
    select * from rejected_chunks
    union all by name
    select * from rejected_importance
    union all by name
    select * from conflicts
    union all by name
    select * from waiting_chunks
)

select
    refusals.kind,
    refusals.about,
    refusals.message,
    refusals.seen_at,
    files.file_key as rejected_file
from refusals
left join output.files on refusals.chunk_seq = files.chunk_seq
