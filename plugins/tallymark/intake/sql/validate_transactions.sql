-- One row per row of transactions. `reason` is why the row is rejected; null if it is accepted.
create or replace temp view validated_rows as
with plain as (
    select * replace (plain_number(amount) as amount)
    from named_rows
),

measured as (
    select
        * exclude (weight) replace (try_cast(amount as decimal(18, 4)) as amount),
        amount as amount_text,
        number_scale(amount) as amount_scale
    from plain
)

select
    * exclude (flaw, amount_text, amount_scale),
    case
        when flaw is not null then flaw
        when customer is null then 'no customer'
        when merchant is null then 'no merchant'
        when amount_text is null then 'no amount'
        when amount_scale is null then 'amount is not a number'
        when amount_scale > 4 then 'amount has more than 4 decimal places'
        when starts_with(amount_text, '-') and coalesce(amount, -1) <> 0 then 'amount is negative'
        when amount is null then 'amount has more than 14 digits before the decimal point'
    end as reason
from measured
