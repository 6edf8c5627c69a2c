{#- Tables and views that one statement replaces. dbt-duckdb's own materializations build aside, rename twice and drop,
    which takes longer than most queries of a micro-batch. -#}
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
