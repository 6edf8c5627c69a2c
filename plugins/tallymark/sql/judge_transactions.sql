-- What each row says and, in `reason`, why it cannot be accepted (null: it can), in the temporary
-- table `judged_rows`.
create or replace temp table judged_rows as
with split as (
    select line_number, line, csv_fields(line) as fields
    from file_rows
),

named as (
    select
        line_number,
        line,
        len(fields) as width,
        bare(fields[$customer]) as customer,
        bare(fields[$merchant]) as merchant,
        bare(fields[$gender]) as gender,
        bare(fields[$amount]) as amount_text,
        trim(fields[cast($step as bigint)], e' \t\'"') as step,
        trim(fields[cast($age as bigint)], e' \t\'"') as age,
        trim(fields[cast($zipcodeori as bigint)], e' \t\'"') as zipcode_ori,
        trim(fields[cast($zipmerchant as bigint)], e' \t\'"') as zip_merchant,
        trim(fields[cast($category as bigint)], e' \t\'"') as category,
        trim(fields[cast($fraud as bigint)], e' \t\'"') as fraud
    from split
),

measured as (
    select
        *,
        try_cast(amount_text as decimal(18, 4)) as amount,
        number_scale(amount_text) as amount_scale
    from named
)

select
    * exclude (width, amount_text, amount_scale),
    case
        when list_contains($undecodable, line_number) then 'not UTF-8'
        when contains(line, chr(0)) then 'contains a NUL character'
        when has_unbalanced_quote(line) then 'quotes do not match'
        when width <> $width then 'has ' || width || ' fields instead of ' || $width
        when customer is null then 'no customer'
        when merchant is null then 'no merchant'
        when amount_text is null then 'no amount'
        when amount_scale is null then 'amount is not a number'
        when amount_scale > 4 then 'amount has more than 4 decimals'
        when starts_with(amount_text, '-') and coalesce(amount, -1) <> 0 then 'amount is negative'
        when amount is null then 'amount has more than 14 digits before the point'
    end as reason
from measured
