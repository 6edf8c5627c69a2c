-- Compares the backtest with the stream. The table changes has one row per pattern, merchant and customer that either
-- of them detected in the range of chunks. Each side is a struct of the detection, its evidence and its thresholds.
create or replace temp table changes as
with stream as (
    select detections.*, thresholds.* exclude (chunk_seq), chunks.chunk_key
    from live_detections as detections
    left join live_chunk_thresholds as thresholds using (chunk_seq)
    left join raw.chunks as chunks using (chunk_seq)
),

backtest as (
    select detections.*, thresholds.* exclude (chunk_seq), chunks.chunk_key
    from detections
    left join chunk_thresholds as thresholds using (chunk_seq)
    left join raw.chunks as chunks using (chunk_seq)
    where detections.chunk_seq >= $first
),

paired as (
    select
        coalesce(stream.pattern_id, backtest.pattern_id) as pattern_id,
        coalesce(stream.action_type, backtest.action_type) as action_type,
        coalesce(stream.merchant, backtest.merchant) as merchant,
        coalesce(stream.customer, backtest.customer) as customer,
        if(stream.pattern_id is not null, stream, null) as stream,
        if(backtest.pattern_id is not null, backtest, null) as backtest
    from stream
    full join backtest
        on stream.pattern_id = backtest.pattern_id
        and stream.merchant = backtest.merchant
        and stream.customer = backtest.customer
)

select
    case
        when stream is null then 'added'
        when backtest is null then 'lost'
        when backtest.chunk_seq < stream.chunk_seq then 'earlier'
        when backtest.chunk_seq > stream.chunk_seq then 'later'
        else 'unchanged'
    end as change,
    *
from paired
order by coalesce(backtest.chunk_seq, stream.chunk_seq), pattern_id, merchant, customer
