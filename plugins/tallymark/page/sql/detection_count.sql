select count(*) as found from matching($pattern, $merchant, $customer)
