with chunks as (
    select * from {{ ref('stg_chunks') }}
),

releases as (
    select * from {{ source('output', 'releases') }}
),

final as (
    select
        chunk_seq,
        importance_version,
        y_started_at
    from chunks
    where chunk_seq > (select coalesce(max(chunk_seq), 0) from releases)
)

select * from final
