-- Splits the chunks up to $last into portions, one row each. A portion has consecutive chunks with the same thresholds,
-- and about $rows rows. The backtest uses the stream's detections (is_given) for portions before $first, and for
-- portions whose thresholds were lost in a rebuild without some chunks.
with decided as (
    select
        chunk_seq,
        struct_pack(*columns(* exclude (chunk_seq))) as thresholds
    from chunk_thresholds
    where chunk_seq >= $first
),

chunks as (
    select
        ledger.chunk_seq,
        ledger.rows_accepted,
        decided.thresholds,
        decided.chunk_seq is null as is_given
    from raw.chunks as ledger
    left join decided using (chunk_seq)
    where ledger.state = 'accepted' and ledger.chunk_seq <= $last
),

compared as (
    select
        *,
        lag(thresholds) over in_order is distinct from thresholds
        or lag(is_given) over in_order is distinct from is_given as is_other
    from chunks
    window in_order as (order by chunk_seq)
),

grouped as (
    select
        *,
        count(*) filter (where is_other) over (order by chunk_seq) as segment
    from compared
),

numbered as (
    select
        *,
        (sum(rows_accepted) over (partition by segment order by chunk_seq) - 1) // $rows as portion
    from grouped
)

select
    min(chunk_seq) as first,
    max(chunk_seq) as last,
    count(*) as chunks,
    sum(rows_accepted)::bigint as row_count,
    any_value(thresholds) as thresholds,
    is_given
from numbered
group by segment, portion, is_given
order by first
