select pattern_id, customer, words
from nearest
where merchant = $merchant
order by pattern_id, distance, customer
