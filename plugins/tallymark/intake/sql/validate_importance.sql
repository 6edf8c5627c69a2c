-- One row per row of customer importance, with the reason if it is rejected; see validate_transactions.sql.
create or replace temp view validated_rows as
with plain as (
    select file, line_number, flaw, customer, merchant, plain_number(weight) as weight_text
    from named_rows
),

measured as (
    select *, number_scale(weight_text) as weight_scale
    from plain
),

-- Casting to a narrow decimal is much faster, and exact for nearly every weight.
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
    customer,
    merchant,
    weight,
    case
        when flaw is not null then flaw
        when customer is null then 'no customer'
        when merchant is null then 'no merchant'
        when weight_text is null then 'no weight'
        when weight_scale is null then 'weight is not a number'
        when weight_scale > 18 then 'weight has more than 18 decimal places'
        when weight is null or abs(weight) >= 1000000000 then 'weight has more than 9 digits before the decimal point'
    end as reason
from cast_weights
