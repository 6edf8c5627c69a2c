{#- The weight of a row of customer_weights by the var upgrade_weight_aggregate, for people to read: an average as
    exact_average has it, anything else exact. -#}
{% macro weight() %}
    {%- if threshold_value('upgrade_weight_aggregate') == 'avg' -%}
        {{ exact_average('sum_weight', 'importance_rows') }}
    {%- else -%}
        {{ threshold_value('upgrade_weight_aggregate') }}_weight
    {%- endif -%}
{% endmacro %}


{#- The same weight as a list of sort keys that order exactly, in whole units of 10^-18. An average is compared as a whole number of
    units of 10^-18 and what remains: two fractions with denominators below 10^9 differ by more than 10^-18. -#}
{% macro weight_sort_keys() %}
    {%- if threshold_value('upgrade_weight_aggregate') == 'avg' -%}
        {%- set units = exact_units('sum_weight') -%}
        {{ integer_division(units, 'importance_rows') }} as weight_key,
        {{ integer_division('(' ~ units ~ ' % importance_rows) * 1000000000000000000', 'importance_rows') }}
            as weight_key_remainder
    {%- else -%}
        {{ exact_units(threshold_value('upgrade_weight_aggregate') ~ '_weight') }} as weight_key,
        cast(0 as {{ whole_number_type() }}) as weight_key_remainder
    {%- endif -%}
{% endmacro %}
