-- Adds the rows of a file as text to `file_rows`: one row per line below the header that is not empty.
insert into file_rows
select $file as file, line_number, line
from unnest(string_split($text, chr(10))) with ordinality as lines (line, line_number)
where line_number > $header_line and line <> ''
