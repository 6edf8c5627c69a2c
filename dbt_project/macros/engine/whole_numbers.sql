{#- Exact arithmetic. The default implementations are for engines on which dividing two decimals gives a decimal. On
    DuckDB it gives a double, but DuckDB has 128-bit integers. -#}

{#- The quotient of two whole numbers, rounded toward zero. -#}
{% macro integer_division(dividend, divisor) %}
    {{- return(adapter.dispatch('integer_division', 'tallymark')(dividend, divisor)) -}}
{% endmacro %}

{#- Subtracts the remainder first, so that the division is exact. Spark's `div` is limited to 64 bits. -#}
{% macro default__integer_division(dividend, divisor) %}
    {{- 'cast(((' ~ dividend ~ ') - (' ~ dividend ~ ') % (' ~ divisor ~ ')) / (' ~ divisor ~ ') as decimal(38, 0))' -}}
{% endmacro %}

{% macro duckdb__integer_division(dividend, divisor) %}(({{ dividend }}) // ({{ divisor }})){% endmacro %}


{#- The widest whole-number type: 38 digits. -#}
{% macro whole_number_type() %}{{ return(adapter.dispatch('whole_number_type', 'tallymark')()) }}{% endmacro %}

{% macro default__whole_number_type() %}{{ return('decimal(38, 0)') }}{% endmacro %}

{% macro duckdb__whole_number_type() %}{{ return('hugeint') }}{% endmacro %}


{#- A decimal(38, 18) as a whole number of units of 10^-18. -#}
{% macro exact_units(column) %}cast(replace(cast({{ column }} as {{ dbt.type_string() }}), '.', '') as {{ whole_number_type() }}){% endmacro %}


{#- The reverse of exact_units: a whole number of units of 10^-18 as a decimal(38, 18). -#}
{% macro from_exact_units(units) %}
    {{- return(adapter.dispatch('from_exact_units', 'tallymark')(units)) -}}
{% endmacro %}

{#- Inserts the decimal point as text, because Spark rounds the product of decimal(38, 0) and decimal(18, 18) to 6
    decimals. -#}
{% macro default__from_exact_units(units) %}
    cast(concat(
        case when {{ units }} < 0 then '-' else '' end,
        regexp_replace(lpad(cast(abs({{ units }}) as string), 38, '0'), '([0-9]{18})$', '.$1')
    ) as decimal(38, 18))
{%- endmacro %}

{% macro duckdb__from_exact_units(units) %}
    {{- 'cast(' ~ units ~ ' as decimal(38, 0)) * cast(0.000000000000000001 as decimal(18, 18))' -}}
{% endmacro %}


{#- A total divided by a whole count, as decimal(38, 18): exact, truncated to 18 decimals. -#}
{% macro exact_average(total, count) %}
    {{- from_exact_units(integer_division(exact_units('cast(' ~ total ~ ' as decimal(38, 18))'), count)) -}}
{% endmacro %}
