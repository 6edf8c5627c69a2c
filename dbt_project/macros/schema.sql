{#- Migrate the tables that `load` and `export` write to the current schema version. The dbt project creates these
    tables, so it also runs on an empty warehouse; the Python code only changes their rows.

    Each migration step is a macro `schema_step_<number>` in macros/schema/step_<number>.sql that returns a list of
    statements. It runs once per warehouse, in the transaction that records its number in raw.schema_versions. Never
    change a released step: add the next one. Raises a compiler error if the warehouse has a newer version. -#}
{% macro update_schema() %}
    {% if execute %}
    {% set version = schema_version() %}
    {% set steps = schema_steps() %}
    {% if version > steps | length %}
        {{ exceptions.raise_compiler_error(
            "The warehouse has schema version " ~ version ~ ", but this Tallymark knows versions up to " ~ steps | length
            ~ ". Install the newer Tallymark that wrote it. Nothing was changed."
        ) }}
    {% endif %}
    {% for number in steps if number > version %}
        {% do run_in_one_transaction(context['schema_step_' ~ number]() + [
            'create table if not exists raw.schema_versions (version bigint, reached_at timestamp)',
            'insert into raw.schema_versions values (' ~ number ~ ', ' ~ utc_now() ~ ')',
        ]) %}
    {% endfor %}
    {% endif %}
{% endmacro %}


{#- The numbers of all steps: 1, 2, ... -#}
{% macro schema_steps() %}
    {% set numbers = [] %}
    {% for number in range(1, 1000) if ('schema_step_' ~ number) in context %}
        {% do numbers.append(number) %}
    {% endfor %}
    {{- return(numbers) -}}
{% endmacro %}


{#- The schema version of the warehouse: the last step that ran, or 0. -#}
{% macro schema_version() %}
    {% set known = run_query(
        "select 1 from information_schema.tables where table_schema = 'raw' and table_name = 'schema_versions'"
    ).rows %}
    {{- return(run_query('select max(version) from raw.schema_versions').columns[0].values()[0] | int if known else 0) -}}
{% endmacro %}


{#- Prepare the engine at the start of each dbt command. On DuckDB: migrate the schema, check that the raw rows are in
    the warehouse, and, if models will run, delete the record of the last passed build, which then proves nothing. On
    Spark: check that it computes exactly. -#}
{% macro prepare_warehouse() %}
    {{- return(adapter.dispatch('prepare_warehouse', 'tallymark')()) -}}
{% endmacro %}

{% macro default__prepare_warehouse() %}
    {%- if execute -%}{%- do must_be_exact() -%}{%- endif -%}
{% endmacro %}

{% macro duckdb__prepare_warehouse() %}
    {{ update_schema() }}
    {% set lake = run_query('select schema_name from lake.about').rows if execute else [] %}
    {% if lake and not env_var('LAKE_BUILD', '') %}
        {{ exceptions.raise_compiler_error(
            'The raw rows of this warehouse are on Spark, in the schema ' ~ lake[0][0]
            ~ '. Set TALLYMARK_ENGINE to the engine that holds them. Nothing was changed.'
        ) }}
    {% endif %}
    {% if execute and flags.WHICH in ('build', 'run') %}
    {% do run_query('delete from output.passed_builds') %}
    {% endif %}
{% endmacro %}
