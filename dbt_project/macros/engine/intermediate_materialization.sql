{#- Where the rows of a model are that one other model reads, more than once: DuckDB keeps them while it runs that
    model's query; Spark would compute them for each reference, so they are a table. -#}
{% macro intermediate_materialization() %}
    {{- return(adapter.dispatch('intermediate_materialization', 'tallymark')()) -}}
{% endmacro %}

{% macro default__intermediate_materialization() %}{{ return('table') }}{% endmacro %}

{% macro duckdb__intermediate_materialization() %}{{ return('ephemeral') }}{% endmacro %}
