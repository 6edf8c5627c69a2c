{#- The incremental strategy replace_all: new rows replace all rows. Unlike a table, such a model may read itself. -#}
{% macro get_incremental_replace_all_sql(arguments) %}
    delete from {{ arguments.target_relation }};
    insert into {{ arguments.target_relation }} by name select * from {{ arguments.temp_relation }}
{% endmacro %}
