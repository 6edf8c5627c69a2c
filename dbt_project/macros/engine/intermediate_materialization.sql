{#- The materialization of a model that a single other model reads more than once. DuckDB keeps its rows while it runs
    the query of that other model. Spark would compute them for each reference, so there it is a table. -#}
{% macro intermediate_materialization() %}
    {{- return(adapter.dispatch('intermediate_materialization', 'tallymark')()) -}}
{% endmacro %}

{% macro default__intermediate_materialization() %}{{ return('table') }}{% endmacro %}

{% macro duckdb__intermediate_materialization() %}{{ return('ephemeral') }}{% endmacro %}
