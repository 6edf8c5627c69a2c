{#- What merchants' customers did: a query with the columns of stg_activity.
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


{#- State of merchants' customers, counted from what they did: a query with the columns of merchant_customers.
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


{#- The table merchant_customers as this run found it, where the model itself would be a cycle; counted from the raw rows
    when there is none yet, or when it is about to be made anew. -#}
{% macro merchant_customers_before_the_batch() %}
    {%- set state = state_table('merchant_customers') -%}
    {%- if load_cached_relation(state) and not flags.FULL_REFRESH -%}
        {{ state }}
    {%- else -%}
        ({{ merchant_customers_of(ref('stg_activity'), 'chunk_seq <= ' ~ last_released_chunk()) }})
    {%- endif -%}
{% endmacro %}


{#- The table lightest_customers as this run found it; without rows when there is none yet, or when it is about to be
    made anew. -#}
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


{#- A table of a model that a reference to the model would make a cycle with. -#}
{% macro state_table(name) %}
    {{- return(table_in(target.schema, name)) -}}
{% endmacro %}


{#- A table by its names, in the database of the target, if it has one. -#}
{% macro table_in(schema, name) %}
    {{- return(api.Relation.create(database=target.database or target.catalog or none, schema=schema, identifier=name)) -}}
{% endmacro %}


{#- So many of the lightest customers of a merchant are kept at least, so that a set of a small merchant seldom has to be
    made anew. -#}
{% macro keep_at_least() %}1000{% endmacro %}
