{#- A relation with all of its rows, where `--empty` would take them away: what was released counts under every flag. -#}
{% macro all_rows_of(relation) %}{{ relation.render() }}{% endmacro %}


{#- The last chunk that an export released; 0: none. -#}
{% macro last_released_chunk() %}
    {{- return(adapter.dispatch('last_released_chunk', 'tallymark')()) -}}
{% endmacro %}

{% macro default__last_released_chunk() %}
    (select coalesce(max(chunk_seq), 0) from {{ all_rows_of(source('output', 'releases')) }})
{%- endmacro %}

{#- As a number, which Spark can compare with the statistics of files, so that it reads those of the batch only. -#}
{% macro spark__last_released_chunk() %}{{ env_var('LAKE_RELEASED', '0') }}{% endmacro %}


{#- For a post-hook: gives a table of released facts the columns that a model has and it lacks, so that the export finds
    a place for all that the model says. -#}
{% macro keep_columns(model, released) %}
    {% if execute %}
        {% set table = api.Relation.create(released.database, released.schema, released.identifier, type='table') %}
        {% set known = adapter.get_column_schema_from_query('select * from ' ~ table) | map(attribute='name') | list %}
        {% set columns = adapter.get_column_schema_from_query('select * from ' ~ model) %}
        {% do alter_relation_add_remove_columns(table, columns | rejectattr('name', 'in', known) | list, none) %}
    {% endif %}
{% endmacro %}
