-- Loads the tables of the attached snapshot. Rows of sealed parts are in sealed_chunks and sealed_detections, newer
-- rows in latest_chunks and latest_detections. Times are UTC.
create or replace table about as from published.about;
create or replace table latest_chunks as from published.chunks;
create or replace table latest_detections as from published.detections;
create or replace table thresholds as from published.thresholds;
create or replace table merchants as from published.merchants;
create or replace table nearest as from published.nearest;
create or replace table open_issues as from published.open_issues;
create or replace table conflicts as from published.conflicts;
create or replace table rejected_rows as from published.rejected_rows;
create or replace table importance_versions as from published.importance_versions;

create table if not exists sealed_chunks as from latest_chunks where false;
create table if not exists sealed_detections as from latest_detections where false;

create or replace view chunks as
select * from sealed_chunks
union all by name
select * from latest_chunks;

create or replace view detections as
select * from sealed_detections
union all by name
select * from latest_detections;

-- Same names as in the warehouse, for the views of the ledger.
create schema if not exists raw;
create or replace view raw.chunks as from main.chunks;
create or replace view raw.conflicts as from main.conflicts;

create or replace view snapshot_facts as
select
    published_at,
    time_zone,
    detection_files,
    merchants as merchant_count,
    open_issues,
    (select count(*) from detections) as detections,
    (select count(*) from chunks) as chunks
from about;

-- One row: the progress of the pipeline. rows_a_minute covers the ten minutes before the last chunk was loaded.
create or replace view progress as
with accepted as (
    select * from chunks where state = 'accepted'
),

recent as (
    select * from accepted order by chunk_seq desc limit 100
),

last_minutes as (
    select * from accepted
    where loaded_at > (select max(loaded_at) from accepted) - interval 10 minutes
)

select
    (select count(*) from chunks) as loaded,
    (select count(*) from chunks where state = 'rejected') as rejected,
    (select max(out_at) from recent) as last_export_at,
    (
        select sum(rows_accepted) / greatest(1, epoch(max(loaded_at) - min(y_started_at)) / 60)
        from last_minutes
    ) as rows_a_minute,
    (select arg_max(seconds, chunk_seq) from recent) as last_seconds,
    (select quantile_cont(seconds, 0.5) from recent) as p50_seconds,
    (select quantile_cont(seconds, 0.95) from recent) as p95_seconds;

-- One row per chunk: landing-to-file seconds of the last 200 exported chunks.
create or replace view latency as
select chunk_seq, chunk_key, seconds
from chunks
where state = 'accepted' and out_at is not null
qualify row_number() over (order by chunk_seq desc) <= 200
order by chunk_seq;

-- One row: what a listing of the bucket is compared with, including the $last keys that were taken last.
create or replace macro taken(last) as table
select
    count(distinct chunk_key) as chunks,
    max(landed_at) as last_landed_at,
    coalesce(list(chunk_key order by chunk_seq)[-last:], []) as last_keys
from chunks;

-- Detections that match the filters; '' matches all. The name of a merchant or customer with detections matches only
-- that name; any other text matches all names that contain it.
create or replace macro matching_detections(pattern, wanted_merchant, wanted_customer) as table
select detections.*
from detections
cross join (
    select
        bool_or(merchant = wanted_merchant) as is_merchant,
        bool_or(customer = wanted_customer) as is_customer
    from detections
) as named
where
    (pattern = '' or pattern_id = pattern)
    and (
        wanted_merchant = ''
        or merchant = wanted_merchant
        or (not is_merchant and contains(lower(merchant), lower(wanted_merchant)))
    )
    and (
        wanted_customer = ''
        or customer = wanted_customer
        or (not is_customer and contains(lower(customer), lower(wanted_customer)))
    );

-- One row per interval and pattern. The interval grows with the time range, from 1 second to 30 days, to keep the chart
-- at about 60 points.
create or replace macro detections_over_time(pattern, wanted_merchant, wanted_customer) as table
with matching as (
    select detected_at, pattern_id from matching_detections(pattern, wanted_merchant, wanted_customer)
    where detected_at is not null
),

step as (
    select coalesce(
        (
            select min(wanted)
            from (select unnest([1, 5, 15, 60, 300, 900, 3600, 21600, 86400, 604800, 2592000]) as wanted)
            where wanted >= (select epoch(max(detected_at) - min(detected_at)) / 60 from matching)
        ),
        2592000
    ) as seconds
)

select
    time_bucket(to_seconds((select seconds from step)), detected_at) as since,
    (select seconds from step) as step_seconds,
    pattern_id,
    count(*) as detections
from matching
group by since, pattern_id
order by since, pattern_id;

create or replace view detections_by_pattern as
select
    pattern_id,
    action_type,
    count(*) as detections
from detections
group by pattern_id, action_type;

-- Merchants that match; '' matches all. The name of a merchant matches only that merchant; any other text matches all
-- names that contain it.
create or replace macro matching_merchants(wanted) as table
with made as (
    select merchant, map_from_entries(list((pattern_id, made) order by pattern_id)) as detections
    from (select merchant, pattern_id, count(*) as made from detections group by merchant, pattern_id)
    group by merchant
)

select
    merchants.merchant,
    merchants.transactions,
    merchants.customers,
    merchants.female_customers,
    merchants.male_customers,
    made.detections
from merchants
left join made on merchants.merchant = made.merchant
where
    case
        when wanted = '' then true
        when wanted in (select merchant from merchants) then merchants.merchant = wanted
        else contains(lower(merchants.merchant), lower(wanted))
    end;

create or replace view totals as
select
    count(*) as chunks,
    coalesce(sum(rows_in_file), 0)::bigint as rows_in_file,
    coalesce(sum(rows_accepted), 0)::bigint as rows_accepted,
    coalesce(sum(rows_rejected), 0)::bigint as rows_rejected,
    count(*) filter (where state = 'rejected') as chunks_rejected,
    (select conflicts from about) as conflicts
from chunks;

create or replace macro matching_chunks(wanted_state, part_of_key) as table
select
    chunk_seq,
    chunk_key,
    etag,
    state,
    first_error,
    rows_in_file,
    rows_accepted,
    rows_rejected,
    importance_version,
    detections,
    landed_at,
    y_started_at,
    loaded_at,
    out_at,
    seconds,
    rejected_file
from chunks
where
    (wanted_state in ('', state) or (wanted_state = 'with rejected rows' and rows_rejected > 0))
    and (part_of_key = '' or contains(lower(chunk_key), lower(part_of_key)));

create or replace view conflicts_with_etags as
select
    conflicts.chunk_key,
    conflicts.etag,
    conflicts.landed_at,
    conflicts.seen_at,
    taken.etag as taken_etag,
    taken.chunk_seq
from conflicts
left join chunks as taken on conflicts.chunk_key = taken.chunk_key and taken.state = 'accepted'
order by seen_at desc, conflicts.chunk_key;
