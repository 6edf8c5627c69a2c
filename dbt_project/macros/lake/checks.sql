{#- Raise a compiler error unless an overflow is an error and strings are compared byte by byte. Both are session
    settings; with other values, state could become wrong without an error. -#}
{% macro must_be_exact() %}
    {%- set found = run_query("select typeof(coalesce(1, '1')) as number_or_text, 'a' = 'A' or 'a' = 'a ' as is_loose").rows[0] -%}
    {%- if found['number_or_text'] == 'string' -%}
        {{ exceptions.raise_compiler_error(
            "ANSI mode is off, so numbers could overflow without an error. Set spark.sql.ansi.enabled=true on the Spark "
            ~ "server (ANSI_MODE=true on Databricks). Nothing was changed."
        ) }}
    {%- elif found['is_loose'] -%}{%- do reject_collation() -%}
    {%- endif -%}
{% endmacro %}


{#- Raise a compiler error if a column of the table has a collation, which it inherits from its schema or catalog. -#}
{% macro must_compare_bytes(table) %}
    {%- for type in run_query('describe table ' ~ lake_table(table)).columns[1].values() if 'collate' in (type or '') -%}
        {%- do reject_collation() -%}
    {%- endfor -%}
{% endmacro %}


{% macro reject_collation() %}
    {{ exceptions.raise_compiler_error(
        "The default collation is not UTF8_BINARY, so different customers could be treated as one. Use a session and a "
        ~ "catalog with the default collation UTF8_BINARY. Nothing was loaded or built."
    ) }}
{% endmacro %}


{#- Raise an error unless Spark computes exactly and this user can create, change and drop Delta tables. Leaves nothing
    behind if it succeeds. -#}
{% macro check_lake(location) %}
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
