-- Adds the rows of a file as text to `file_rows`: one row per line below the header that is not empty.
-- $undecodable is JSON, as everywhere where a list may be long: as a list, DuckDB 1.5 takes 0.1 ms per element.
insert into file_rows
select
    $file as file,
    line_number,
    line,
    undecodable.line_number is not null as is_undecodable
from unnest(string_split($text, chr(10))) with ordinality as lines (line, line_number)
left join (select unnest(from_json($undecodable, '["bigint"]')) as line_number) as undecodable using (line_number)
where line_number > $header_line and line <> ''
