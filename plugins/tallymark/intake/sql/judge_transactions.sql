-- What each row says and, in `reason`, why it cannot be accepted (null: it can), in the temporary
-- table `judged_rows`.
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
        value(fields[files.gender], simple) as gender,
        value(fields[files.amount], simple) as amount_text,
        trimmed(fields[files.step], simple) as step,
        trimmed(fields[files.age], simple) as age,
        trimmed(fields[files.zipcodeori], simple) as zipcode_ori,
        trimmed(fields[files.zipmerchant], simple) as zip_merchant,
        trimmed(fields[files.category], simple) as category,
        trimmed(fields[files.fraud], simple) as fraud
    from split
    inner join files using (file)
),

plain as (
    select * replace (plain_number(amount_text) as amount_text)
    from named
),

measured as (
    select
        *,
        try_cast(amount_text as decimal(18, 4)) as amount,
        number_scale(amount_text) as amount_scale
    from plain
)

select
    * exclude (simple, width, is_undecodable, fields_found, amount_text, amount_scale),
    case
        when is_undecodable then 'not UTF-8'
        when contains(line, chr(0)) then 'contains a NUL character'
        when not simple and has_unbalanced_quote(line) then 'quotes do not match'
        when fields_found <> width then 'has ' || fields_found || ' fields instead of ' || width
        when customer is null then 'no customer'
        when merchant is null then 'no merchant'
        when amount_text is null then 'no amount'
        when amount_scale is null then 'amount is not a number'
        when amount_scale > 4 then 'amount has more than 4 decimals'
        when starts_with(amount_text, '-') and coalesce(amount, -1) <> 0 then 'amount is negative'
        when amount is null then 'amount has more than 14 digits before the point'
    end as reason
from measured
