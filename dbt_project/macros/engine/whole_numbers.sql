{#- The whole part of a / b for whole numbers of any size, rounded towards zero. -#}
{% macro integer_division(dividend, divisor) %}
    {{- return(adapter.dispatch('integer_division')(dividend, divisor)) -}}
{% endmacro %}

{% macro default__integer_division(dividend, divisor) %}(({{ dividend }}) // ({{ divisor }})){% endmacro %}


{#- A decimal(38, 18) as a whole number of units of 10^-18. -#}
{% macro exact_units(column) %}
    {{- return(adapter.dispatch('exact_units')(column)) -}}
{% endmacro %}

{% macro default__exact_units(column) %}cast(replace(cast({{ column }} as varchar), '.', '') as hugeint){% endmacro %}


{#- The reverse: a whole number of units of 10^-18 as a decimal(38, 18). -#}
{% macro from_exact_units(units) %}
    {{- return(adapter.dispatch('from_exact_units')(units)) -}}
{% endmacro %}

{% macro default__from_exact_units(units) %}
    {{- 'cast(' ~ units ~ ' as decimal(38, 0)) * cast(0.000000000000000001 as decimal(18, 18))' -}}
{% endmacro %}


{#- A sum by a whole count, as decimal(38, 18): exact, cut off after the 18th decimal. -#}
{% macro exact_average(total, count) %}
    {{- from_exact_units(integer_division(exact_units('cast(' ~ total ~ ' as decimal(38, 18))'), count)) -}}
{% endmacro %}
