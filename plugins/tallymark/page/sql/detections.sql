select * from matching($pattern, $merchant, $customer)
order by detection_id desc
limit $limit
offset $offset
