{#- Macros that write rows for the warehouse, as Delta tables of one commit each in a folder that it reads. -#}

{#- Write the results of a build.

    Args: the folder for the tables; the last chunk_seq in the warehouse's copy of merchants. -#}
{% macro collect_build(folder, merchants_after) %}
    {%- do write_result(folder, 'batch_candidates', 'select * from ' ~ build_table('batch_candidates')) -%}
    {%- do write_result(folder, 'batch_merchants', 'select distinct merchant from ' ~ build_table('batch_merchants')) -%}
    {%- do write_result(folder, 'batch_merchant_customers',
        'select distinct batch.merchant, batch.customer from ' ~ build_table('batch_merchant_customers')
        ~ ' as batch inner join ' ~ build_table('near_pairs')
        ~ ' as near_pairs on batch.merchant = near_pairs.merchant and batch.customer = near_pairs.customer'
    ) -%}
    {%- do write_result(folder, 'merchants',
        'select * from ' ~ lake_table('merchants') ~ ' where last_chunk_seq > ' ~ merchants_after
    ) -%}
{% endmacro %}


{#- Write the rows of a source, or a model that outlives a build.

    Args: the folder; the name; the first and the last chunk_seq (none: all rows). -#}
{% macro collect_table(folder, name, chunks=none) %}
    {%- set table = build_table(name) if name in ('transactions', 'customer_importance') else lake_table(name) -%}
    {%- set condition = ' where chunk_seq between ' ~ chunks | join(' and ') if chunks else '' -%}
    {%- do write_result(folder, 'table', 'select * from ' ~ table ~ condition) -%}
{% endmacro %}


{#- Write at most `most` rows of a query. -#}
{% macro collect_query(folder, query, most) %}
    {%- do write_result(folder, 'query', 'select * from (' ~ query ~ ') as found limit ' ~ most) -%}
{% endmacro %}


{% macro write_result(folder, name, query) %}
    {%- set table = build_table((folder ~ '_' ~ name).rpartition('/')[2]) -%}
    {%- do run_query("create table " ~ table ~ " using delta location '" ~ folder ~ "/" ~ name ~ "' as " ~ query) -%}
{% endmacro %}
