select *
from nearest
cross join thresholds
where merchant = $merchant
order by pattern_id, distance, customer
