insert into raw.customer_importance by name
select $version as importance_version, customer, merchant, weight
from judged_rows
where reason is null
