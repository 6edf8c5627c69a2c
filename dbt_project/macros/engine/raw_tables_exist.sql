{#- Whether the last of the tables of create_raw_tables is there. -#}
{% macro raw_tables_exist() %}
    {{- return(adapter.dispatch('raw_tables_exist')()) -}}
{% endmacro %}

{% macro default__raw_tables_exist() %}
    {% set found = run_query(
        "select 1 from information_schema.tables where table_schema = 'raw' and table_name = 'refused_chunks'"
    ) %}
    {{- return(found | length > 0) -}}
{% endmacro %}
