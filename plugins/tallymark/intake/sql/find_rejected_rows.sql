create or replace temp table found_rejected as
select file, line_number, reason
from judged_rows
where reason is not null
