-- Detections of the stream and the backtest, and each kind of change: one row per pattern, or with $by_merchant, per
-- pattern and merchant.
select
    pattern_id,
    any_value(action_type) as action_type,
    if($by_merchant, merchant, null) as merchant,
    count(stream) as stream,
    count(backtest) as backtest,
    count(*) filter (where change = 'added') as added,
    count(*) filter (where change = 'lost') as lost,
    count(*) filter (where change = 'earlier') as earlier,
    count(*) filter (where change = 'later') as later,
    count(*) filter (where change = 'unchanged') as unchanged
from changes
group by pattern_id, if($by_merchant, merchant, null)
order by pattern_id, count(*) - unchanged desc, merchant
