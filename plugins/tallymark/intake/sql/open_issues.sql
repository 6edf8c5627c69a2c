-- Open issues at a moment, one row per issue: its kind, its subject, and a message with the reason and what to do.
-- Alerts, the Detections page and the notes of runs all use this macro. `seen_at` is when the issue was seen last,
-- `rejected_file` the file with the reason and rows of a rejected chunk.
create or replace temp macro open_issues(moment) as table
with rejected_chunks as (
    select
        'rejected chunk' as kind,
        chunk_key as about,
        arg_max(
            reason || '. Put a corrected object under the same key'
            || coalesce(', or change TALLYMARK_' || upper(limit_setting), '') || '.',
            chunk_seq
        ) as message,
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
        reason || '. The last good version, if any, stays in use.' as message,
        loaded_at as seen_at
    from raw.importance_versions
    where state = 'rejected' and loaded_at = (select max(loaded_at) from raw.importance_versions)
),

conflicts as (
    select
        'conflict' as kind,
        chunk_key as about,
        arg_max(message, seen_at) as message,
        max(seen_at) as seen_at
    from raw.conflicts
    where seen_at > moment - interval 1 day
    group by chunk_key
),

unreadable as (
    select
        'unreadable ' || kind as kind,
        input_key as about,
        'could not be read (' || attempts || case when attempts = 1 then ' attempt' else ' attempts' end
        || '), although S3 serves other objects. It will be retried. ' || reason as message,
        last_failed_at as seen_at
    from raw.unreadable_inputs
    where last_failed_at > moment - interval 1 day and input_key not in (select chunk_key from raw.chunks)
),

ignored as (
    select kind, about, message, seen_at
    from raw.ignored_inputs
),

issues as (
    select * from rejected_chunks
    union all by name
    select * from rejected_importance
    union all by name
    select * from conflicts
    union all by name
    select * from unreadable
    union all by name
    select * from ignored
)

select
    issues.kind,
    issues.about,
    issues.message,
    issues.seen_at,
    files.file_key as rejected_file
from issues
left join output.files on issues.chunk_seq = files.chunk_seq
