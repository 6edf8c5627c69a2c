-- The snapshot; one that an older version published lacks the columns that are named here.
create or replace table current as
select
    null::bigint as refusal_count,
    null::struct(kind varchar, about varchar, message varchar, seen_at timestamp, rejected_file varchar)[] as refusals
where false
union all by name
select * from read_parquet($path)
