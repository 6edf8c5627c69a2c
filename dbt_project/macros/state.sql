{#- A query that aggregates transactions per chunk, merchant and customer, with the columns of stg_activity.
    Args: a relation with the columns of stg_transactions. -#}
{% macro activity_of(transactions) %}
    select
        chunk_seq,
        merchant,
        customer,
        cast(count(*) as bigint) as transactions,
        sum(amount) as amount,
        max(is_female) as is_female,
        max(is_male) as is_male
    from {{ transactions }}
    group by chunk_seq, merchant, customer
{% endmacro %}


{#- A query that aggregates activity per merchant and customer, with the columns of merchant_customers.
    Args: a relation with the columns of stg_activity; a condition on its rows. -#}
{% macro merchant_customers_of(activity, condition='true') %}
    select
        merchant,
        customer,
        cast(sum(transactions) as bigint) as transactions,
        cast(sum(amount) as decimal(28, 4)) as amount,
        min(chunk_seq) as first_chunk_seq,
        min(case when is_female then chunk_seq end) as first_female_chunk_seq,
        min(case when is_male then chunk_seq end) as first_male_chunk_seq,
        max(chunk_seq) as last_chunk_seq
    from {{ activity }}
    where {{ condition }}
    group by merchant, customer
{% endmacro %}


{#- The rows of merchant_customers before this run. A ref() to the model would be a cycle. On the first run and for a
    full refresh, a query over the raw rows of the released chunks. -#}
{% macro merchant_customers_before_the_batch() %}
    {%- set state = state_table('merchant_customers') -%}
    {%- if load_cached_relation(state) and not flags.FULL_REFRESH -%}
        {{ state }}
    {%- else -%}
        ({{ merchant_customers_of(ref('stg_activity'), 'chunk_seq <= ' ~ last_released_chunk()) }})
    {%- endif -%}
{% endmacro %}


{#- The rows of lightest_customers before this run; no rows on the first run and for a full refresh. -#}
{% macro lightest_customers_before_the_batch() %}
    {%- set state = state_table('lightest_customers') -%}
    {%- if load_cached_relation(state) and not flags.FULL_REFRESH -%}
        {{ state }}
    {%- else -%}
        (
            select
                *,
                0 as customers_with_weight,
                0 as heaviest_key,
                0 as heaviest_key_remainder,
                false as is_complete,
                '' as weight_aggregate,
                0 as last_chunk_seq
            from {{ ref('batch_newcomers') }}
            where false
        )
    {%- endif -%}
{% endmacro %}


{#- The table of a model, for places where a ref() to the model would be a cycle. -#}
{% macro state_table(name) %}
    {{- return(table_in(target.schema, name)) -}}
{% endmacro %}


{#- A table by schema and name, in the database or catalog of the target, if there is one. -#}
{% macro table_in(schema, name) %}
    {{- return(api.Relation.create(database=target.database or target.catalog or none, schema=schema, identifier=name)) -}}
{% endmacro %}


{#- The minimum number of lightest customers to keep per merchant, so that the sets of small merchants are rarely
    recounted. -#}
{% macro keep_at_least() %}1000{% endmacro %}
