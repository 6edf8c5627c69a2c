with made as (
    select merchant, map_from_entries(list((pattern_id, made) order by pattern_id)) as detections
    from (select merchant, pattern_id, count(*) as made from detections group by merchant, pattern_id)
    group by merchant
)

select
    merchants.merchant,
    merchants.transactions,
    merchants.customers,
    merchants.female_customers,
    merchants.male_customers,
    made.detections,
    count(*) over () as found
from merchants
left join made on merchants.merchant = made.merchant
where
    case
        when $merchant = '' then true
        when $merchant in (select merchant from merchants) then merchants.merchant = $merchant
        else contains(lower(merchants.merchant), lower($merchant))
    end
order by merchants.transactions desc, merchants.merchant
limit $limit
offset $offset
