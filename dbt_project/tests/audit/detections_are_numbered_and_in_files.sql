with numbered as (
    select
        detection_id,
        chunk_seq,
        pattern_id,
        merchant,
        customer,
        file_number,
        row_number() over (order by chunk_seq, pattern_id, merchant, customer) as place,
        count(*) over (partition by pattern_id, merchant, customer) as times
    from {{ source('released', 'detections') }}
),

filed as (
    select
        numbered.*,
        files.file_number as file_by_range,
        chunks.chunk_key
    from numbered
    left join {{ ref('stg_chunks') }} as chunks on numbered.chunk_seq = chunks.chunk_seq
    left join {{ source('output', 'files') }} as files
        on numbered.detection_id between files.first_detection_id and files.last_detection_id
)

select *
from filed
where detection_id <> place or times > 1 or file_number is distinct from file_by_range or chunk_key is null
