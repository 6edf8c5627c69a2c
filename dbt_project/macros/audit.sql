{#- Macros that the audit tests share. The tests recompute everything from the raw rows, without the models, so their
    cost grows with the history. -#}

{#- The last chunk in the state, but at least the last released chunk, which the state must include. -#}
{% macro last_chunk_in_state() %}
    (
        select greatest(coalesce(max(last_chunk_seq), 0), {{ last_released_chunk() }})
        from {{ ref('merchant_customers') }}
    )
{%- endmacro %}


{#- Rows that are in only one of two CTEs. -#}
{% macro differences(kept, recomputed) %}
    select 'only in the warehouse' as problem, * from (select * from {{ kept }} except all select * from {{ recomputed }})
    union all
    select 'only in the raw rows' as problem, * from (select * from {{ recomputed }} except all select * from {{ kept }})
{% endmacro %}


{#- The sort keys of the macro weight_sort_keys, with the aggregate from a column instead of the var.
    Args: the column with the name of the aggregate; a relation with the columns of customer_weights. -#}
{% macro weight_sort_keys_by(aggregate, weights) %}
    case {{ aggregate }}
        when 'sum' then {{ exact_units(weights ~ '.sum_weight') }}
        when 'min' then {{ exact_units(weights ~ '.min_weight') }}
        when 'max' then {{ exact_units(weights ~ '.max_weight') }}
        else {{ integer_division(exact_units(weights ~ '.sum_weight'), weights ~ '.importance_rows') }}
    end as weight_key,
    case {{ aggregate }}
        when 'avg' then {{ integer_division(
            '(' ~ exact_units(weights ~ '.sum_weight') ~ ' % ' ~ weights ~ '.importance_rows) * 1000000000000000000',
            weights ~ '.importance_rows'
        ) }}
        else cast(0 as {{ whole_number_type() }})
    end as weight_key_remainder
{% endmacro %}
