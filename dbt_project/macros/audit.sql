{#- What audit tests have in common. They recompute from the raw rows in one pass, at every chunk boundary, without
    the models; the cost grows with the history. -#}

{#- The last chunk that the state holds, and must hold. -#}
{% macro last_chunk_in_state() %}
    (
        select greatest(coalesce(max(last_chunk_seq), 0), {{ last_released_chunk() }})
        from {{ ref('merchant_customers') }}
    )
{%- endmacro %}


{#- Rows of two CTEs that are in one of them only. -#}
{% macro differences(kept, recomputed) %}
    select 'only in the warehouse' as problem, * from (select * from {{ kept }} except all select * from {{ recomputed }})
    union all
    select 'only in the raw rows' as problem, * from (select * from {{ recomputed }} except all select * from {{ kept }})
{% endmacro %}


{#- The sort keys of a weight as in the macro weight_sort_keys, by an aggregate that a column has. -#}
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
