with files as (
    select
        *,
        lag(file_number, 1, 0) over (order by file_number) as file_number_before,
        lag(last_detection_id, 1, 0) over (order by file_number) as last_detection_id_before
    from {{ source('output', 'files') }}
    where file_number is not null
)

select
    file_number,
    row_count,
    first_detection_id,
    last_detection_id
from files
where {{ is_out_of_order() }}
