{#- A relation with all of its rows, even with `--empty`: releases must count regardless of dbt's flags. -#}
{% macro all_rows_of(relation) %}{{ relation.render() }}{% endmacro %}


{#- The last chunk that an export released, or 0. -#}
{% macro last_released_chunk() %}
    {{- return(adapter.dispatch('last_released_chunk', 'tallymark')()) -}}
{% endmacro %}

{% macro default__last_released_chunk() %}
    (select coalesce(max(chunk_seq), 0) from {{ all_rows_of(source('output', 'releases')) }})
{%- endmacro %}

{#- A literal, so that Spark can compare it with the statistics of each file and read only the files of the batch. -#}
{% macro spark__last_released_chunk() %}{{ env_var('LAKE_RELEASED', '0') }}{% endmacro %}


{#- Add the columns of a model that a table of released rows lacks, so that the export can insert them. For a
    post-hook. -#}
{% macro keep_columns(model, released) %}
    {% if execute %}
        {% set table = api.Relation.create(released.database, released.schema, released.identifier, type='table') %}
        {% set known = adapter.get_column_schema_from_query('select * from ' ~ table) | map(attribute='name') | list %}
        {% set columns = adapter.get_column_schema_from_query('select * from ' ~ model) %}
        {% do alter_relation_add_remove_columns(table, columns | rejectattr('name', 'in', known) | list, none) %}
    {% endif %}
{% endmacro %}
