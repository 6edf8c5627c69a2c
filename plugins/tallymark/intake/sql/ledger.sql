-- All chunks in the ledger, including conflicts, which have no chunk_seq. A state is final unless it is a rejection
-- because of a limit that has changed since.
create or replace temp view found_before as
select
    chunk_seq,
    chunk_key,
    etag,
    content_bytes,
    content_sha256,
    state,
    limit_setting is null or (limit_setting, limit_bytes) in (select (setting, bytes) from limits_in_force) as is_final
from raw.chunks
union all by name
select chunk_key, etag, 'conflict' as state, true as is_final
from raw.conflicts;

-- Keys and ETags that are not taken again. A rejected chunk is included until an object is accepted under its key.
create or replace temp view known_chunks as
select chunk_seq, chunk_key, etag
from found_before
where
    state <> 'rejected'
    or (is_final and chunk_key not in (select chunk_key from raw.chunks where state = 'accepted'));

-- One row per given chunk, in the given order: its state in the ledger, and whether its key is new. `compare`: the key
-- is known under a different ETag, and the content may be the same.
create or replace temp macro seen_as(keys, etags, sizes) as table
with asked as (
    select
        unnest(keys) as chunk_key,
        unnest(etags) as etag,
        unnest(cast(sizes as bigint[])) as size,
        unnest(range(len(keys))) as place
),

matched as (
    select
        asked.place,
        before.chunk_key is null as is_new_key,
        before.state = 'accepted' as was_accepted,
        (asked.chunk_key, asked.etag) in (select (chunk_key, etag) from known_chunks) as is_known,
        before.is_final
        and before.content_sha256 is not null
        and before.content_bytes = coalesce(asked.size, before.content_bytes) as may_be_same_content
    from asked
    left join found_before as before on asked.chunk_key = before.chunk_key
)

select
    case
        when bool_or(is_known) then 'known'
        when bool_or(may_be_same_content) then 'compare'
        when bool_or(was_accepted) then 'conflict'
        else 'new'
    end as seen_as,
    bool_or(is_new_key) as is_new_key
from matched
group by place
order by place
