with chunks as (
    select * from {{ ref('stg_chunks') }}
),

final as (
    select
        chunk_seq,
        importance_version,
        y_started_at
    from chunks
    where chunk_seq > {{ last_released_chunk() }}
)

select * from final
