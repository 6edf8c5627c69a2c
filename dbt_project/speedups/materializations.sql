{#- Materializations that replace a table, or add to it, with as few statements as possible. Those of dbt-duckdb build a
    second table, rename twice and drop, or look up columns, which takes longer than most queries of a micro-batch.
    TALLYMARK_SPEEDUPS=false leaves this folder out, so that dbt-duckdb's are used
    (plugins/tallymark/speedups/README.md). -#}
{% materialization table, adapter='duckdb' %}
    {{- return(replace_table()) -}}
{% endmaterialization %}


{% macro replace_table() %}
    {%- set table = this.incorporate(type='table') -%}
    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}
    {%- call statement('main') -%}
        create or replace table {{ table }} as ({{ compiled_code }})
    {%- endcall -%}
    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {% do adapter.commit() %}
    {{ run_hooks(post_hooks, inside_transaction=False) }}
    {{- return({'relations': [table]}) -}}
{% endmacro %}


{#- Supports the strategies append, replace_all, and delete+insert, which needs a unique_key and replaces existing rows
    with the same key. Columns are matched by name. A model whose columns change needs a full refresh. -#}
{% materialization incremental, adapter='duckdb' %}
    {%- if not is_incremental() or config.get('incremental_strategy') == 'replace_all' -%}
        {{- return(replace_table()) -}}
    {%- endif -%}
    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}
    {%- call statement('main') -%}
        {%- if config.get('incremental_strategy') == 'append' -%}
            insert into {{ this }} by name ({{ compiled_code }})
        {%- elif config.get('incremental_strategy') == 'delete+insert' and config.get('unique_key') -%}
            {{ delete_and_insert(this, config.get('unique_key'), compiled_code) }}
        {%- else -%}
            {{ exceptions.raise_compiler_error('incremental_strategy must be append, replace_all, or delete+insert with a unique_key') }}
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
