with last_release as (
    select max_by(released_at, chunk_seq) as released_at
    from {{ source('output', 'releases') }}
),

-- An export plans its files after it records its release.
new_files as (
    select files.*
    from {{ source('output', 'files') }} as files
    cross join last_release
    where files.file_number is not null and files.planned_at >= last_release.released_at
),

file_before as (
    select
        coalesce(max(file_number), 0) as file_number,
        coalesce(max(last_detection_id), 0) as last_detection_id
    from {{ source('output', 'files') }}
    where file_number < (select min(file_number) from new_files)
),

files as (
    select
        new_files.*,
        lag(new_files.file_number, 1, file_before.file_number) over in_order as file_number_before,
        lag(new_files.last_detection_id, 1, file_before.last_detection_id) over in_order as last_detection_id_before
    from new_files
    cross join file_before
    window in_order as (order by new_files.file_number)
)

select
    file_number,
    row_count,
    first_detection_id,
    last_detection_id
from files
where {{ is_out_of_order() }}
