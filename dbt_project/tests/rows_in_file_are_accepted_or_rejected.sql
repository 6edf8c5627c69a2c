with batch as (
    select chunk_seq, count(*) as times_in_batch
    from {{ ref('batch_chunks') }}
    group by chunk_seq
),

chunks as (
    select ledger.*, batch.times_in_batch
    from {{ source('raw', 'chunks') }} as ledger
    inner join batch on ledger.chunk_seq = batch.chunk_seq
),

accepted as (
    select batch.chunk_seq, count(*) as row_count
    from {{ source('raw', 'transactions') }} as transactions
    inner join batch on transactions.chunk_seq = batch.chunk_seq
    where transactions.chunk_seq > {{ last_released_chunk() }}
    group by batch.chunk_seq
),

rejected as (
    select batch.chunk_seq, count(*) as row_count
    from {{ source('raw', 'rejected_rows') }} as rejected_rows
    inner join batch on rejected_rows.chunk_seq = batch.chunk_seq
    group by batch.chunk_seq
)

select
    chunks.chunk_seq,
    chunks.chunk_key,
    chunks.times_in_batch,
    chunks.rows_in_file,
    chunks.rows_accepted,
    chunks.rows_rejected,
    accepted.row_count as rows_in_transactions,
    rejected.row_count as rows_in_rejected_rows
from chunks
left join accepted on chunks.chunk_seq = accepted.chunk_seq
left join rejected on chunks.chunk_seq = rejected.chunk_seq
where
    chunks.times_in_batch <> 1
    or chunks.rows_in_file <> chunks.rows_accepted + chunks.rows_rejected
    or chunks.rows_accepted <> coalesce(accepted.row_count, 0)
    or chunks.rows_rejected <> coalesce(rejected.row_count, 0)
