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
        sources: folders of Parquet files, by the name of the table that each becomes.
        folder: not used; the caller passes it to all macros. -#}
{% macro hand_over(build, previous, marks, location, loads, is_whole, sources, folder) %}
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
    {%- do hand_over_sources(sources) -%}
    {%- do add_released_chunks(is_whole) -%}
    {%- do create_views_of_rows() -%}
{% endmacro %}


{#- Create the sources of the last build from folders of Parquet files. With `folder`, replace existing ones. -#}
{% macro hand_over_sources(sources, folder=none) %}
    {%- for name, source_folder in sources.items() -%}
        {%- if folder -%}{%- do run_query("drop table if exists " ~ build_table(name)) -%}{%- endif -%}
        {%- do run_query("create table " ~ build_table(name) ~ " using parquet location '" ~ source_folder ~ "'") -%}
    {%- endfor -%}
{% endmacro %}


{#- Names of tables. A lake_table outlives a build; a build_table belongs to one build. -#}
{% macro lake_table(name) %}{{ return(table_in(target.schema, name).render()) }}{% endmacro %}
{% macro build_schema() %}{{ return(target.schema ~ '_' ~ env_var('LAKE_BUILD')) }}{% endmacro %}
{% macro build_table(name) %}{{ return(table_in(build_schema(), name).render()) }}{% endmacro %}


{#- Raise a compiler error unless an overflow is an error and strings are compared byte by byte. Both are session
    settings; with other values, state could become wrong without an error. -#}
{% macro must_be_exact() %}
    {%- set found = run_query("select typeof(coalesce(1, '1')) as number_or_text, 'a' = 'A' or 'a' = 'a ' as is_loose").rows[0] -%}
    {%- if found['number_or_text'] == 'string' -%}
        {{ exceptions.raise_compiler_error(
            "ANSI mode is off, so numbers could overflow without an error. Set spark.sql.ansi.enabled=true on the Spark "
            ~ "server (ANSI_MODE=true on Databricks). Nothing was changed."
        ) }}
    {%- elif found['is_loose'] -%}{%- do refuse_collation() -%}
    {%- endif -%}
{% endmacro %}


{#- Raise a compiler error if a column of the table has a collation, which it inherits from its schema or catalog. -#}
{% macro must_compare_bytes(table) %}
    {%- for type in run_query('describe table ' ~ lake_table(table)).columns[1].values() if 'collate' in (type or '') -%}
        {%- do refuse_collation() -%}
    {%- endfor -%}
{% endmacro %}


{% macro refuse_collation() %}
    {{ exceptions.raise_compiler_error(
        "The default collation is not UTF8_BINARY, so different customers could be treated as one. Use a session and a "
        ~ "catalog with the default collation UTF8_BINARY. Nothing was loaded or built."
    ) }}
{% endmacro %}


{#- Raise an error unless Spark computes exactly and this user can create, change and drop Delta tables. Leaves nothing
    behind if it succeeds. -#}
{% macro check_lake(location, folder) %}
    {%- do must_be_exact() -%}
    {%- do create_schema_at(target.schema, location) -%}
    {%- do run_query('create table ' ~ lake_table('probe') ~ ' (one int, word string) using delta') -%}
    {%- do must_compare_bytes('probe') -%}
    {%- do run_query('merge into ' ~ lake_table('probe') ~ ' as probe using (select 1 as one) as found on probe.one = found.one '
        ~ 'when matched then update set one = found.one') -%}
    {%- do run_query('drop schema ' ~ target.schema ~ ' cascade') -%}
{% endmacro %}


{#- Raise a compiler error if this warehouse does not know the last build in the lake. Either another warehouse writes
    to the lake, or this warehouse was restored from a backup. -#}
{% macro must_be_the_last_writer(previous) %}
    {%- set last = run_query("select build from " ~ lake_table('last_build')).columns[0].values() | list -%}
    {%- if last | reject('in', previous) | list -%}
        {{ exceptions.raise_compiler_error(
            "The warehouse does not know the last build in the schema " ~ target.schema ~ ": " ~ last | join(', ')
            ~ ". Either a copy of the warehouse writes there too, or the warehouse was restored from a backup. If there "
            ~ "is a copy, stop it first. " ~ full_refresh_advice()
        ) }}
    {%- endif -%}
{% endmacro %}


{#- Raise a compiler error if state and ledger do not end with the same chunks, for example because only one of them was
    restored from a backup. -#}
{% macro must_fit_the_ledger(marks) %}
    {%- set queries = ["select 'released_chunks' as mark_of, max(chunk_seq) as chunk_seq from " ~ lake_table('released_chunks')] -%}
    {%- for state in ('merchant_customers', 'customers_by_transactions', 'merchants') -%}
        {%- do queries.append("select '" ~ state ~ "' as mark_of, max(last_chunk_seq) as chunk_seq from " ~ lake_table(state)) -%}
    {%- endfor -%}
    {%- for mark in run_query(queries | join(' union all ')).rows -%}
        {%- set smallest = marks.told if mark['mark_of'] == 'released_chunks' else marks.smallest -%}
        {%- if not smallest <= (mark['chunk_seq'] or 0) <= marks.largest -%}
            {{ exceptions.raise_compiler_error(
                "The table " ~ target.schema ~ "." ~ mark['mark_of'] ~ " ends with chunk " ~ (mark['chunk_seq'] or 0)
                ~ "; according to the ledger, it must end between " ~ smallest ~ " and " ~ marks.largest
                ~ ". The schema or the warehouse was restored from an older backup. " ~ full_refresh_advice()
            ) }}
        {%- endif -%}
    {%- endfor -%}
{% endmacro %}


{% macro full_refresh_advice() %}{{ return('Rebuild state from the rows that the ledger names: tallymark build --full-refresh') }}{% endmacro %}


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


{#- Hand back the results of a build that the warehouse needs, as Delta tables of one commit each.

    Args: the folder for the tables; the last chunk_seq in the warehouse's copy of merchants. -#}
{% macro hand_back_build(folder, merchants_after) %}
    {%- do hand_back(folder, 'batch_candidates', 'select * from ' ~ build_table('batch_candidates')) -%}
    {%- do hand_back(folder, 'batch_merchants', 'select distinct merchant from ' ~ build_table('batch_merchants')) -%}
    {%- do hand_back(folder, 'batch_merchant_customers',
        'select distinct batch.merchant, batch.customer from ' ~ build_table('batch_merchant_customers')
        ~ ' as batch inner join ' ~ build_table('near_pairs')
        ~ ' as near_pairs on batch.merchant = near_pairs.merchant and batch.customer = near_pairs.customer'
    ) -%}
    {%- do hand_back(folder, 'merchants',
        'select * from ' ~ lake_table('merchants') ~ ' where last_chunk_seq > ' ~ merchants_after
    ) -%}
{% endmacro %}


{#- Hand back a source, or a model that outlives a build.

    Args: the folder; the name; the first and the last chunk_seq to hand back (none: all rows). -#}
{% macro hand_back_table(folder, name, chunks=none) %}
    {%- set table = build_table(name) if name in ('transactions', 'customer_importance') else lake_table(name) -%}
    {%- set condition = ' where chunk_seq between ' ~ chunks | join(' and ') if chunks else '' -%}
    {%- do hand_back(folder, 'table', 'select * from ' ~ table ~ condition) -%}
{% endmacro %}


{#- Hand back at most `most` rows of a query. -#}
{% macro hand_back_query(folder, query, most) %}
    {%- do hand_back(folder, 'query', 'select * from (' ~ query ~ ') as found limit ' ~ most) -%}
{% endmacro %}


{% macro hand_back(folder, name, query) %}
    {%- set table = build_table((folder ~ '_' ~ name).rpartition('/')[2]) -%}
    {%- do run_query("create table " ~ table ~ " using delta location '" ~ folder ~ "/" ~ name ~ "' as " ~ query) -%}
{% endmacro %}
