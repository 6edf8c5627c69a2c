-- The tables of current.duckdb: everything that the page shows and that is not in a sealed part.
set variable sealed_chunks = (select coalesce(max(last_id), 0) from snapshot.parts where kind = 'chunks');
set variable sealed_detections = (select coalesce(max(last_id), 0) from snapshot.parts where kind = 'detections');

create or replace temp table open_now as from open_issues(getvariable('snapshot').published_at);

create table published.about as
select
    getvariable('snapshot').published_at as published_at,
    getvariable('snapshot').time_zone as time_zone,
    (select coalesce(max(file_number), 0) from output.files) as detection_files,
    (select count(*) from merchants) as merchants,
    (select count(*) from raw.conflicts) as conflicts,
    (select count(*) from open_now) as open_issues;

create table published.parts as
select kind, key from snapshot.parts order by kind, last_id;

create table published.chunks as
select * from chunk_rows
where chunk_seq > getvariable('sealed_chunks')
order by chunk_seq;

create table published.detections as
select * from detection_rows
where detection_id > getvariable('sealed_detections')
order by detection_id;

create table published.thresholds as
select * exclude (chunk_seq) from chunk_thresholds
order by chunk_seq desc
limit 1;

create table published.merchants as
select merchant, transactions, customers, female_customers, male_customers
from merchants
order by transactions desc, merchant
limit 5_000;

create table published.nearest as
select * from snapshot.nearest
where merchant in (select merchant from published.merchants)
qualify row_number() over (partition by pattern_id, merchant order by distance, customer) <= 5
order by merchant, pattern_id, distance, customer;

create table published.open_issues as
select * from open_now
order by seen_at desc, kind, about
limit getvariable('snapshot').rejected;

create table published.conflicts as
select chunk_key, etag, landed_at, seen_at
from raw.conflicts
order by seen_at desc, chunk_key
limit getvariable('snapshot').rejected;

create table published.rejected_rows as
with chunks_with_rejected_rows as (
    select chunk_seq from raw.chunks
    where rows_rejected > 0
    order by chunk_seq desc
    limit getvariable('snapshot').rejected
)

select chunk_seq, importance_version, object_key, line_number, reason, line[:500] as line
from raw.rejected_rows
where
    chunk_seq >= (select min(chunk_seq) from chunks_with_rejected_rows)
    or importance_version = (select max(importance_version) from raw.importance_versions)
order by chunk_seq desc nulls first, importance_version desc nulls last, object_key, line_number
limit getvariable('snapshot').rejected;

create table published.importance_versions as
select importance_version, state, reason, rows_accepted, rows_rejected, loaded_at
from raw.importance_versions
order by importance_version desc
limit 20;
