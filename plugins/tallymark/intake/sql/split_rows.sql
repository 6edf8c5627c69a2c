-- Splits the lines in `file_rows` into values. `flaw` is the reason why a line cannot be split.
insert into split_rows by name
with split as (
    select *, is_simple(line) as simple, fields_of(line, simple) as fields
    from file_rows
)

select
    file,
    line_number,
    value(fields[files.customer], simple) as customer,
    value(fields[files.merchant], simple) as merchant,
    value(fields[files.gender], simple) as gender,
    value(fields[files.amount], simple) as amount,
    value(fields[files.weight], simple) as weight,
    trimmed(fields[files.step], simple) as step,
    trimmed(fields[files.age], simple) as age,
    trimmed(fields[files.zipcodeori], simple) as zipcodeori,
    trimmed(fields[files.zipmerchant], simple) as zipmerchant,
    trimmed(fields[files.category], simple) as category,
    trimmed(fields[files.fraud], simple) as fraud,
    case
        when is_undecodable then 'not UTF-8'
        when contains(line, chr(0)) then 'contains a NUL character'
        when not simple and has_unbalanced_quote(line) then 'unbalanced quotes'
        when len(fields) <> width
            then 'has ' || len(fields) || if(len(fields) = 1, ' field', ' fields') || ' instead of ' || width
    end as flaw
from split
inner join files using (file)
