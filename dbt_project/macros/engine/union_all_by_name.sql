{#- All rows of some queries; columns that one of them lacks are null. -#}
{% macro union_all_by_name(queries) %}
    {{- return(adapter.dispatch('union_all_by_name', 'tallymark')(queries)) -}}
{% endmacro %}

{% macro default__union_all_by_name(queries) %}{{ queries | join('\nunion all by name\n') }}{% endmacro %}
