-- Accepted rows with an invisible character inside an id, by what their file is part of, with an example. Only files that
-- are read line by line have any.
with ids as (
    select file, line_number, unnest([customer, merchant]) as id
    from split_rows
    anti join found_rejected using (file, line_number)
)

select $names[file] as name, count(distinct (file, line_number)) as row_count, min_by(id, (file, line_number)) as example
from ids
where regexp_matches(id, '[' || getvariable('hidden') || ']')
group by name
order by min(file)
