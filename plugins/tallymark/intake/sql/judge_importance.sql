-- Customer importance rows, in the temporary table `judged_rows`: see judge_transactions.sql.
create or replace temp table judged_rows as
with split as (
    select *, is_simple(line) as simple, fields_of(line, simple) as fields
    from file_rows
),

named as (
    select
        file,
        line_number,
        line,
        simple,
        files.width,
        is_undecodable,
        len(fields) as fields_found,
        value(fields[files.customer], simple) as customer,
        value(fields[files.merchant], simple) as merchant,
        value(fields[files.weight], simple) as weight_text
    from split
    inner join files using (file)
),

plain as (
    select * replace (plain_number(weight_text) as weight_text)
    from named
),

measured as (
    select
        *,
        number_scale(weight_text) as weight_scale
    from plain
),

-- Casting text to a narrow decimal is far quicker, and right for nearly every weight.
cast_weights as (
    select
        *,
        coalesce(
            case when weight_scale <= 4 then cast(try_cast(weight_text as decimal(13, 4)) as decimal(38, 18)) end,
            try_cast(weight_text as decimal(38, 18))
        ) as weight
    from measured
)

select
    file,
    line_number,
    line,
    customer,
    merchant,
    weight,
    case
        when is_undecodable then 'not UTF-8'
        when contains(line, chr(0)) then 'contains a NUL character'
        when not simple and has_unbalanced_quote(line) then 'quotes do not match'
        when fields_found <> width then 'has ' || fields_found || ' fields instead of ' || width
        when customer is null then 'no customer'
        when merchant is null then 'no merchant'
        when weight_text is null then 'no weight'
        when weight_scale is null then 'weight is not a number'
        when weight_scale > 18 then 'weight has more than 18 decimals'
        when weight is null or abs(weight) >= 1000000000 then 'weight has more than 9 digits before the point'
    end as reason
from cast_weights
