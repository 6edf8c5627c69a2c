{#- All columns of a relation in a query but some. -#}
{% macro all_columns_except(relation, columns) %}
    {{- return(adapter.dispatch('all_columns_except', 'tallymark')(relation, columns)) -}}
{% endmacro %}

{% macro default__all_columns_except(relation, columns) %}{{ relation }}.* except ({{ columns | join(', ') }}){% endmacro %}

{% macro duckdb__all_columns_except(relation, columns) %}{{ relation }}.* exclude ({{ columns | join(', ') }}){% endmacro %}
