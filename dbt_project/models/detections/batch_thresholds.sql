{{ config(post_hook="{{ keep_columns(this, source('released', 'chunk_thresholds')) }}") }}

with batch as (
    select * from {{ ref('batch_chunks') }}
    where chunk_seq > {{ last_released_chunk() }}
),

final as (
    select
        chunk_seq,
        {{ thresholds_in_force() }}
    from batch
)

select * from final
