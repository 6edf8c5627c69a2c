-- Tables that keep track of the snapshot, and views of the rows that go into it.
create schema if not exists snapshot;

-- Sealed parts, one row each: rows of a kind up to last_id, starting after the previous part.
create table if not exists snapshot.parts (kind varchar, last_id bigint, key varchar, is_put boolean);

create table if not exists snapshot.nearest as from batch_candidates where false;

-- Parts of a run that was killed before it put them.
delete from snapshot.parts where not is_put;

create or replace temp view chunk_rows as
with first_errors as (
    select
        chunk_seq,
        min_by(format('line {}: {}', line_number, reason), (object_key, line_number)) as first_error
    from raw.rejected_rows
    group by chunk_seq
)

select
    chunks.* exclude (reason),
    landing_to_file.detections,
    landing_to_file.out_at,
    landing_to_file.seconds,
    coalesce(chunks.reason, first_errors.first_error) as first_error,
    files.file_key as rejected_file
from raw.chunks
inner join landing_to_file on chunks.chunk_seq = landing_to_file.chunk_seq
left join first_errors on chunks.chunk_seq = first_errors.chunk_seq
left join output.files on chunks.chunk_seq = files.chunk_seq;

create or replace temp view detection_rows as
select *
from detections
left join chunk_thresholds using (chunk_seq);

-- For each kind, the last row that is sealed, and the last row that no longer changes.
create or replace temp view sealing as
select
    kind,
    coalesce((select max(last_id) from snapshot.parts where parts.kind = final.kind), 0) as sealed,
    last_id as final
from (
    select
        'chunks' as kind,
        coalesce(
            (select min(chunk_seq) - 1 from detections where file_number is null),
            (select max(chunk_seq) from output.releases),
            0
        ) as last_id
    union all
    select
        'detections' as kind,
        (select coalesce(max(last_detection_id), 0) from output.files where put_at is not null) as last_id
) as final;
