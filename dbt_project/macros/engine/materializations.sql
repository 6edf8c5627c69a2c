{#- Tables and views that one statement replaces, and tables that one statement adds to. dbt-duckdb's own
    materializations build aside, rename twice and drop, or look up columns, which takes longer than most queries of a
    micro-batch. -#}
{% materialization table, adapter='duckdb' %}
    {{- return(replace_relation('table')) -}}
{% endmaterialization %}


{% materialization view, adapter='duckdb' %}
    {{- return(replace_relation('view')) -}}
{% endmaterialization %}


{% macro replace_relation(type) %}
    {%- set before = load_cached_relation(this) -%}
    {%- set relation = this.incorporate(type=type) -%}
    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}
    {%- if before is not none and before.type != type -%}
        {% do adapter.drop_relation(before) %}
    {%- endif -%}
    {%- call statement('main') -%}
        create or replace {{ type }} {{ relation }} as ({{ compiled_code }})
    {%- endcall -%}
    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {% do adapter.commit() %}
    {{ run_hooks(post_hooks, inside_transaction=False) }}
    {{- return({'relations': [relation]}) -}}
{% endmacro %}


{#- Strategies are append; insert_overwrite, which replaces all rows; and delete+insert, which needs a unique_key: rows with
    known keys replace those that are there.
    Columns go by name. A model whose columns change needs a full refresh. -#}
{% materialization incremental, adapter='duckdb' %}
    {%- if not is_incremental() or config.get('incremental_strategy') == 'insert_overwrite' -%}
        {{- return(replace_relation('table')) -}}
    {%- endif -%}
    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}
    {%- call statement('main') -%}
        {%- if config.get('incremental_strategy') == 'append' -%}
            insert into {{ this }} by name ({{ compiled_code }})
        {%- elif config.get('incremental_strategy') == 'delete+insert' and config.get('unique_key') -%}
            {{ delete_and_insert(this, config.get('unique_key'), compiled_code) }}
        {%- else -%}
            {{ exceptions.raise_compiler_error('incremental_strategy must be append, or delete+insert with a unique_key') }}
        {%- endif -%}
    {%- endcall -%}
    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {% do adapter.commit() %}
    {{ run_hooks(post_hooks, inside_transaction=False) }}
    {{- return({'relations': [this]}) -}}
{% endmaterialization %}


{% macro delete_and_insert(table, unique_key, rows) %}
    {%- set new = adapter.quote(table.identifier ~ '__new') -%}
    create or replace temp table {{ new }} as ({{ rows }});
    delete from {{ table }} as known using {{ new }} as new
    where
        {%- for column in ([unique_key] if unique_key is string else unique_key) %}
        {{ 'and' if not loop.first }} known.{{ column }} = new.{{ column }}
        {%- endfor %};
    insert into {{ table }} by name select * from {{ new }};
    drop table {{ new }}
{% endmacro %}
