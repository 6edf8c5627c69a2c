with activity as (
    select * from {{ ref('stg_activity') }}
),

batch as (
    select * from {{ ref('batch_chunks') }}
),

final as (
    select activity.*
    from activity
    inner join batch on activity.chunk_seq = batch.chunk_seq
)

select * from final
