-- Files of detections that were put since a moment, in their order.
select file_key, row_count
from output.files
where file_number is not null and put_at >= $since
order by file_number
