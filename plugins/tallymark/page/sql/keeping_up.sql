-- Where the pipeline is. Rows a minute are those of the ten minutes before the last chunk was loaded.
with accepted as (
    select * from ledger where state = 'accepted'
),

recent as (
    select * from accepted order by chunk_seq desc limit 100
),

last_loaded as (
    select max(loaded_at) as loaded_at from accepted
),

last_minutes as (
    select *
    from accepted
    where loaded_at > (select loaded_at from last_loaded) - interval 10 minutes
)

select
    (select count(*) from ledger) as loaded,
    (select count(*) from ledger where state = 'rejected') as rejected,
    (select max(out_at) from recent) as last_export_at,
    (
        select sum(rows_accepted) / greatest(1, epoch(max(loaded_at) - min(y_started_at)) / 60)
        from last_minutes
    ) as rows_a_minute,
    (select arg_max(epoch(out_at - landed_at), chunk_seq) from recent) as last_seconds,
    (select quantile_cont(epoch(out_at - landed_at), 0.5) from recent) as p50_seconds,
    (select quantile_cont(epoch(out_at - landed_at), 0.95) from recent) as p95_seconds
