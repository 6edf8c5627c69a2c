{#- The weight in a row of customer_weights, aggregated by the var upgrade_weight_aggregate. For display: an average is
    truncated to 18 decimals; the other aggregates are exact. -#}
{% macro weight() %}
    {%- if threshold_value('upgrade_weight_aggregate') == 'avg' -%}
        {{ exact_average('sum_weight', 'importance_rows') }}
    {%- else -%}
        {{ threshold_value('upgrade_weight_aggregate') }}_weight
    {%- endif -%}
{% endmacro %}


{#- The same weight as two sort keys that order exactly: weight_key, a whole number of units of 10^-18, and
    weight_key_remainder, which for an average is the remaining fraction of a unit, times 10^18 and truncated. That is
    exact enough: two different fractions with denominators below 10^9 differ by more than 10^-18. -#}
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
