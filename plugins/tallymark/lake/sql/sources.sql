-- The sources of a build on Spark, one view per table. The variable bounds is a struct of chunk numbers: `released`,
-- the last released chunk; `synced`, the last released chunk that Spark already has; `rejected_after`, where
-- rejected_rows starts; `last`, the last chunk of the build.
create or replace temp view ledger as
select
    chunks.chunk_seq,
    chunks.chunk_key,
    chunks.state,
    chunks.importance_version,
    chunks.y_started_at,
    chunks.rows_in_file,
    chunks.rows_accepted,
    chunks.rows_rejected,
    loads.load_id
from raw.chunks
left join lake.loads on chunks.chunk_seq = loads.chunk_seq
order by chunks.chunk_seq;

create or replace temp view batch_ledger as
from ledger
where chunk_seq > getvariable('bounds').released;

create or replace temp view released_ledger as
from ledger
where chunk_seq > getvariable('bounds').synced and chunk_seq <= getvariable('bounds').released;

create or replace temp view rejected_rows as
select chunk_seq from raw.rejected_rows
where chunk_seq > getvariable('bounds').rejected_after and chunk_seq <= getvariable('bounds').last;

create or replace temp view importance_versions as
select
    versions.importance_version,
    versions.state,
    versions.rows_accepted,
    loads.load_id
from raw.importance_versions as versions
left join lake.loads on versions.importance_version = loads.importance_version;
