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
