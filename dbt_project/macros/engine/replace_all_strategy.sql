{#- The incremental strategy that replaces all rows at once. Unlike a model materialized as a table, a model with this
    strategy may read its own previous rows. -#}
{% macro replace_all_strategy() %}
    {{- return(adapter.dispatch('replace_all_strategy', 'tallymark')()) -}}
{% endmacro %}

{% macro default__replace_all_strategy() %}{{ return('insert_overwrite') }}{% endmacro %}

{% macro duckdb__replace_all_strategy() %}{{ return('replace_all') }}{% endmacro %}


{% macro get_incremental_replace_all_sql(arguments) %}
    delete from {{ arguments.target_relation }};
    insert into {{ arguments.target_relation }} by name select * from {{ arguments.temp_relation }}
{% endmacro %}
