with candidates as (
    {{ candidates_of_all_patterns() }}
),

final as (
    select * from candidates
    where is_met or is_last_of_batch
)

select * from final
