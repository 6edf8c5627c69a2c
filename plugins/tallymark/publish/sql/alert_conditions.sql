-- With a variable, the view landing_to_file is computed for this chunk only.
set variable last_chunk = (
    select max(chunk_seq) from raw.chunks
    where state = 'accepted' and chunk_seq <= (select max(chunk_seq) from output.releases)
);

-- Current alert conditions, one row each: kind, subject and message.
with accepted as (
    select * from raw.chunks where state = 'accepted'
),

lag as (
    select
        'lag' as kind,
        'landing-to-file time' as about,
        format('{} took {:.0f} s; the limit is {:g} s.', chunk_key, seconds, $lag_limit) as message
    from landing_to_file
    where chunk_seq = getvariable('last_chunk') and seconds > $lag_limit
),

last_releases as (
    select
        max(chunk_seq) as last_chunk_seq,
        max(chunk_seq) filter (where released_at < (select max(released_at) from output.releases)) as chunk_seq_before
    from output.releases
),

by_chunk as (
    select
        accepted.chunk_seq,
        accepted.chunk_seq > last_releases.chunk_seq_before as is_last_run,
        count(detections.chunk_seq) as detections
    from accepted
    cross join last_releases
    left join detections on accepted.chunk_seq = detections.chunk_seq
    where
        accepted.chunk_seq <= last_releases.last_chunk_seq
        and accepted.chunk_seq > last_releases.chunk_seq_before - 1000
    group by accepted.chunk_seq, is_last_run
),

rates as (
    select
        avg(detections) filter (where is_last_run) as last_rate,
        sum(detections) filter (where is_last_run) as last_detections,
        avg(detections) filter (where not is_last_run) as usual_rate,
        count(*) filter (where not is_last_run) as usual_chunks
    from by_chunk
),

many_detections as (
    select
        'many detections' as kind,
        'last run' as about,
        format(
            '{:.1f} per chunk instead of {:.1f}. Check whether a threshold or the input data changed.',
            last_rate,
            usual_rate
        ) as message
    from rates
    where usual_chunks >= 20 and last_detections >= 50 and last_rate > $many_times * usual_rate
),

no_detections as (
    select
        'no detections' as kind,
        'recent chunks' as about,
        format(
            'None in the last {:.0f} h, although chunks are processed.',
            epoch($now - coalesce(max(detections.detected_at), min(accepted.loaded_at))) / 3600
        ) as message
    from accepted
    left join detections on accepted.chunk_seq = detections.chunk_seq
    having
        max(accepted.loaded_at) > $now - to_seconds($quiet_seconds)
        and coalesce(max(detections.detected_at), min(accepted.loaded_at)) < $now - to_seconds($quiet_seconds)
)

select kind, about, message from open_issues($now)
union all
select kind, about, message from lag
union all
select kind, about, message from many_detections
union all
select kind, about, message from no_detections
order by kind, about
