{#- The weight of a row of customer_weights by the var upgrade_weight_aggregate, for people to read: an average as
    average_weight has it, anything else exact. -#}
{% macro weight() %}
    {%- if weight_aggregate() == 'avg' -%}
        {{ average_weight('sum_weight', 'importance_rows') }}
    {%- else -%}
        {{ weight_aggregate() }}_weight
    {%- endif -%}
{% endmacro %}


{#- A sum as decimal(38, 18) by a whole count, as decimal(38, 18): exact, what is behind the 18th decimal cut off. -#}
{% macro average_weight(sum_weight, importance_rows) %}
    {{- from_exact_units(integer_division(exact_units(sum_weight), importance_rows)) -}}
{% endmacro %}


{#- The same weight as a list of sort keys that order exactly, in whole units of 10^-18. An average is compared as a whole number of
    units of 10^-18 and what remains: two fractions with denominators below 10^9 differ by more than 10^-18. -#}
{% macro weight_sort_keys() %}
    {%- if weight_aggregate() == 'avg' -%}
        {%- set units = exact_units('sum_weight') -%}
        {{ integer_division(units, 'importance_rows') }} as weight_key,
        {{ integer_division('(' ~ units ~ ' % importance_rows) * 1000000000000000000', 'importance_rows') }}
            as weight_key_remainder
    {%- else -%}
        {{ exact_units(weight_aggregate() ~ '_weight') }} as weight_key,
        0 as weight_key_remainder
    {%- endif -%}
{% endmacro %}


{% macro weight_aggregate() %}
    {%- set aggregate = var('upgrade_weight_aggregate') -%}
    {%- if aggregate not in ('sum', 'avg', 'min', 'max') -%}
        {{ exceptions.raise_compiler_error(
            "var upgrade_weight_aggregate is " ~ aggregate ~ ": it must be sum, avg, min or max"
        ) }}
    {%- endif -%}
    {{ return(aggregate) }}
{% endmacro %}
