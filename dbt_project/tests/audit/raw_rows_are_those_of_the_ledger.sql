with ledger as (
    select
        chunk_seq,
        rows_accepted,
        rows_rejected
    from {{ source('raw', 'chunks') }}
    where rows_accepted + rows_rejected > 0
),

counted as (
    select
        chunk_seq,
        sum(is_accepted) as rows_accepted,
        sum(1 - is_accepted) as rows_rejected
    from (
        select chunk_seq, 1 as is_accepted
        from {{ source('raw', 'transactions') }}
        union all
        select chunk_seq, 0 as is_accepted
        from {{ source('raw', 'rejected_rows') }}
        where chunk_seq is not null
    ) as raw_rows
    group by chunk_seq
)

{{ differences('ledger', 'counted') }}
