{#- Macros that move rows to Spark (the lake) before a build, and results back to the warehouse after it. They do not
    decide which rows count: the ledger in the warehouse does, because it names the load of each chunk. If a statement
    runs late, after its client was killed, it adds rows of a load that no ledger names, or writes to a schema that no
    build reads. See docs/decisions/spark.md. -#}

{#- Create the schema and the sources of a new build, and add the rows that the lake does not have yet.

    Args:
        build: name of the build.
        previous: names of earlier builds; the last build in the lake must be one of them. Empty for a full refresh.
        marks: state must end between the chunks `smallest` and `largest`, and released_chunks between `told` and
            `largest`. None if no build has finished yet, or for a full refresh.
        location: URI below which schemas are created; empty: where the metastore creates them.
        loads: for each load, its load_id, its folder of Parquet files, and the table of raw rows that it is added to.
        is_whole: whether the source released_ledger holds the whole ledger up to the last release.
        sources: folders of Parquet files, by the name of the table that each becomes. -#}
{% macro prepare_build(build, previous, marks, location, loads, is_whole, sources) %}
    {%- do must_be_exact() -%}
    {%- do create_lake(location) -%}
    {%- if is_whole -%}{%- do must_compare_bytes('raw_transactions') -%}{%- endif -%}
    {%- if previous -%}{%- do must_be_the_last_writer(previous) -%}{%- endif -%}
    {%- if marks -%}{%- do must_fit_the_ledger(marks) -%}{%- endif -%}
    {%- do run_query("insert overwrite " ~ lake_table('last_build') ~ " select '" ~ build ~ "' as build") -%}
    {%- do drop_schemas_of_builds() -%}
    {%- do create_schema_at(build_schema(), location) -%}
    {%- for load in loads -%}
        {%- do run_query(
            "insert into " ~ lake_table(load.table) ~ " select '" ~ load.load_id ~ "' as load_id, * from parquet.`"
            ~ load.folder ~ "`"
        ) -%}
    {%- endfor -%}
    {%- do create_sources(sources) -%}
    {%- do add_released_chunks(is_whole) -%}
    {%- do create_views_of_rows() -%}
{% endmacro %}


{#- Create the sources of the last build from folders of Parquet files. With `replace`, drop existing ones
    first. -#}
{% macro create_sources(sources, replace=false) %}
    {%- for name, folder in sources.items() -%}
        {%- if replace -%}{%- do run_query("drop table if exists " ~ build_table(name)) -%}{%- endif -%}
        {%- do run_query("create table " ~ build_table(name) ~ " using parquet location '" ~ folder ~ "'") -%}
    {%- endfor -%}
{% endmacro %}


{#- Names of tables. A lake_table outlives a build; a build_table belongs to one build. -#}
{% macro lake_table(name) %}{{ return(table_in(target.schema, name).render()) }}{% endmacro %}
{% macro build_schema() %}{{ return(target.schema ~ '_' ~ env_var('LAKE_BUILD')) }}{% endmacro %}
{% macro build_table(name) %}{{ return(table_in(build_schema(), name).render()) }}{% endmacro %}


{% macro create_lake(location) %}
    {%- do create_schema_at(target.schema, location) -%}
    {%- set tables = {
        'raw_transactions': 'load_id string, chunk_seq bigint, line_number bigint, step string, customer string, age string,
            gender string, zipcode_ori string, merchant string, zip_merchant string, category string,
            amount decimal(18, 4), fraud string',
        'raw_customer_importance': 'load_id string, importance_version bigint, customer string, merchant string,
            weight decimal(38, 18)',
        'released_chunks': columns_of_chunks(with_types=true),
        'last_build': 'build string',
    } -%}
    {%- for name, columns in tables.items() -%}
        {%- do run_query('create table if not exists ' ~ lake_table(name) ~ ' (' ~ columns ~ ') using delta') -%}
    {%- endfor -%}
{% endmacro %}


{#- The columns of the ledger that models and tests read, and the load_id of each chunk. -#}
{% macro columns_of_chunks(with_types=false) %}
    {%- set columns = {
        'chunk_seq': 'bigint', 'chunk_key': 'string', 'state': 'string', 'importance_version': 'bigint',
        'y_started_at': 'timestamp_ntz', 'rows_in_file': 'bigint', 'rows_accepted': 'bigint', 'rows_rejected': 'bigint',
        'load_id': 'string',
    } -%}
    {%- set declared = [] -%}
    {%- for name, type in columns.items() -%}{%- do declared.append(name ~ (' ' ~ type if with_types else '')) -%}{%- endfor -%}
    {{- return(declared | join(', ')) -}}
{% endmacro %}


{#- Add the ledger rows that a release made final. Safe to repeat, even by a client that runs late. -#}
{% macro add_released_chunks(is_whole) %}
    {%- set table, query = lake_table('released_chunks'), "select " ~ columns_of_chunks() ~ " from " ~ build_table('released_ledger') -%}
    {%- if is_whole -%}
        {%- do run_query("insert overwrite " ~ table ~ " " ~ query) -%}
    {%- else -%}
        {%- do run_query(
            "insert into " ~ table ~ " " ~ query ~ " where chunk_seq > (select coalesce(max(chunk_seq), 0) from " ~ table ~ ")"
        ) -%}
    {%- endif -%}
{% endmacro %}


{#- Create the sources `chunks`, `transactions` and `customer_importance` as views of the rows whose load the ledger
    names. -#}
{% macro create_views_of_rows() %}
    {%- do run_query(
        "create view " ~ build_table('chunks') ~ " as select " ~ columns_of_chunks() ~ " from " ~ lake_table('released_chunks')
        ~ " union all select " ~ columns_of_chunks() ~ " from " ~ build_table('batch_ledger')
    ) -%}
    {%- do run_query(
        "create view " ~ build_table('transactions') ~ " as select loaded.chunk_seq, loaded.line_number, loaded.step, "
        ~ "loaded.customer, loaded.age, loaded.gender, loaded.zipcode_ori, loaded.merchant, loaded.zip_merchant, "
        ~ "loaded.category, loaded.amount, loaded.fraud from " ~ lake_table('raw_transactions') ~ " as loaded inner join "
        ~ build_table('chunks') ~ " as chunks on loaded.chunk_seq = chunks.chunk_seq and loaded.load_id = chunks.load_id"
    ) -%}
    {%- do run_query(
        "create view " ~ build_table('customer_importance') ~ " as select loaded.importance_version, loaded.customer, "
        ~ "loaded.merchant, loaded.weight from " ~ lake_table('raw_customer_importance') ~ " as loaded inner join "
        ~ build_table('importance_versions') ~ " as versions on loaded.importance_version = versions.importance_version "
        ~ "and loaded.load_id = versions.load_id"
    ) -%}
{% endmacro %}


{#- Drop the schemas of earlier builds with everything in them. -#}
{% macro drop_schemas_of_builds() %}
    {%- set found = run_query("show schemas like '" ~ target.schema ~ "_build_*'") -%}
    {%- for row in found.rows -%}
        {%- do run_query('drop schema if exists ' ~ row[0] ~ ' cascade') -%}
    {%- endfor -%}
{% endmacro %}


{% macro create_schema_at(name, location) %}
    {%- do run_query(
        "create schema if not exists " ~ name ~ (" location '" ~ location ~ "/" ~ name ~ "'" if location else "")
    ) -%}
{% endmacro %}
