insert into found_rejected by name
select file, line_number, reason
from judged_rows
where reason is not null
