{#- Exact arithmetic. The default is for engines whose quotient of two decimals is a decimal; DuckDB's is a double, but
    it has whole numbers of 128 bits. -#}

{#- The whole part of a / b for whole numbers, rounded towards zero. -#}
{% macro integer_division(dividend, divisor) %}
    {{- return(adapter.dispatch('integer_division', 'tallymark')(dividend, divisor)) -}}
{% endmacro %}

{#- A multiple of the divisor, which is divided without a remainder: `div` of Spark is one of 64 bits. -#}
{% macro default__integer_division(dividend, divisor) %}
    {{- 'cast(((' ~ dividend ~ ') - (' ~ dividend ~ ') % (' ~ divisor ~ ')) / (' ~ divisor ~ ') as decimal(38, 0))' -}}
{% endmacro %}

{% macro duckdb__integer_division(dividend, divisor) %}(({{ dividend }}) // ({{ divisor }})){% endmacro %}


{#- The type of whole numbers of any size. -#}
{% macro whole_number_type() %}{{ return(adapter.dispatch('whole_number_type', 'tallymark')()) }}{% endmacro %}

{% macro default__whole_number_type() %}{{ return('decimal(38, 0)') }}{% endmacro %}

{% macro duckdb__whole_number_type() %}{{ return('hugeint') }}{% endmacro %}


{#- A decimal(38, 18) as a whole number of units of 10^-18. -#}
{% macro exact_units(column) %}cast(replace(cast({{ column }} as {{ dbt.type_string() }}), '.', '') as {{ whole_number_type() }}){% endmacro %}


{#- The reverse: a whole number of units of 10^-18 as a decimal(38, 18). -#}
{% macro from_exact_units(units) %}
    {{- return(adapter.dispatch('from_exact_units', 'tallymark')(units)) -}}
{% endmacro %}

{#- The point is put in as text: a product of decimal(38, 0) and decimal(18, 18) is rounded to 6 decimals by Spark. -#}
{% macro default__from_exact_units(units) %}
    cast(concat(
        case when {{ units }} < 0 then '-' else '' end,
        regexp_replace(lpad(cast(abs({{ units }}) as string), 38, '0'), '([0-9]{18})$', '.$1')
    ) as decimal(38, 18))
{%- endmacro %}

{% macro duckdb__from_exact_units(units) %}
    {{- 'cast(' ~ units ~ ' as decimal(38, 0)) * cast(0.000000000000000001 as decimal(18, 18))' -}}
{% endmacro %}


{#- A sum by a whole count, as decimal(38, 18): exact, cut off after the 18th decimal. -#}
{% macro exact_average(total, count) %}
    {{- from_exact_units(integer_division(exact_units('cast(' ~ total ~ ' as decimal(38, 18))'), count)) -}}
{% endmacro %}
