{#- The names of all patterns, sorted. A pattern is a model with a macro `rule_of_<model>` in its file. dbt reads all
    macros before it parses a model, so batch_candidates can find patterns without naming them. -#}
{% macro pattern_names() %}
    {%- set names = [] -%}
    {%- for name in context if name.startswith('rule_of_') -%}
        {%- do names.append(name[8:]) -%}
    {%- endfor -%}
    {{- return(names | sort) -}}
{% endmacro %}


{#- The declaration of a pattern, from `meta` in its yml: id, action, rule, evidence and thresholds. Empty while dbt
    parses and in unit tests, where macros have no graph. -#}
{% macro pattern(name) %}
    {{- return(graph.nodes['model.' ~ project_name ~ '.' ~ name].config.meta.pattern if graph.nodes else {}) -}}
{% endmacro %}


{#- A query for the candidates of all patterns. Evidence columns of other patterns are null. -#}
{% macro candidates_of_all_patterns() %}
    {%- set evidence = evidence_types() -%}
    {%- for name in pattern_names() %}
    select
        '{{ pattern(name).id }}' as pattern_id,
        '{{ pattern(name).action }}' as action_type,
        chunk_seq,
        merchant,
        customer,
        {%- for column, type in evidence.items() %}
        cast({{ column if column in evidence_types(name) else 'null' }} as {{ type }}) as {{ column }},
        {%- endfor %}
        is_met,
        is_last_of_batch,
        distance
    from {{ ref(name) }}
    {{ 'union all' if not loop.last }}
    {%- endfor %}
{% endmacro %}


{#- The evidence columns of one pattern, or of all, and their types, as declared in the yml. Empty where the macro
    `pattern` returns nothing. Raises a compiler error for a column without a type. -#}
{% macro evidence_types(name=none) %}
    {%- set types = {} -%}
    {%- for pattern_name in ([name] if name else pattern_names()) if graph.nodes -%}
        {%- for column in graph.nodes['model.' ~ project_name ~ '.' ~ pattern_name].columns.values() -%}
            {%- if not column.data_type -%}
                {{ exceptions.raise_compiler_error(
                    pattern_name ~ '.yml has no data_type for the column ' ~ column.name ~ '. Add one.'
                ) }}
            {%- endif -%}
            {%- do types.update({column.name: column.data_type}) -%}
        {%- endfor -%}
    {%- endfor -%}
    {{- return(types) -}}
{% endmacro %}


{#- Whether the evidence in a row of batch_detections satisfies the rule of the row's pattern. May be null if an
    evidence column is null. -#}
{% macro satisfies_the_rule() %}
    case pattern_id
        {%- for name in pattern_names() %}
        when '{{ pattern(name).id }}' then {{ context['rule_of_' ~ name]() }}
        {%- endfor %}
        else false
    end
{% endmacro %}


{#- The declarations of all thresholds, by name. Empty where the macro `pattern` returns nothing. -#}
{% macro thresholds() %}
    {%- set declared = {} -%}
    {%- for name in pattern_names() -%}
        {%- do declared.update(pattern(name).thresholds or {}) -%}
    {%- endfor -%}
    {{- return(declared) -}}
{% endmacro %}


{#- The value of a threshold as SQL: a number as an exact decimal, a word as text. -#}
{% macro threshold(name) %}
    {%- set value = threshold_value(name) -%}
    {%- if modules.re.fullmatch('[0-9.]+', value) -%}
        cast('{{ value }}' as decimal(18, 6))
    {%- else -%}
        '{{ value }}'
    {%- endif -%}
{% endmacro %}


{#- The values of all thresholds, as columns of a query. -#}
{% macro thresholds_in_force() %}
    {%- set columns = [] -%}
    {%- for name in thresholds() -%}
        {%- do columns.append(threshold(name) ~ ' as ' ~ name) -%}
    {%- endfor -%}
    {{- columns | join(',\n        ') -}}
{% endmacro %}


{#- The value of a threshold as text: the var of that name, or the default that its pattern declares. A unit test must
    set each threshold it needs. Raises a compiler error if the declaration does not allow the value. A number has at
    most 12 digits before the decimal point and 6 after it. -#}
{% macro threshold_value(name) %}
    {%- if not execute -%}{{ return('0') }}{%- endif -%}
    {%- set declared = thresholds().get(name) -%}
    {%- set value = (var(name, declared.default) if declared else var(name)) | string | trim -%}
    {%- if declared.allowed -%}
        {%- set is_allowed = value in declared.allowed -%}
        {%- set wanted = 'one of ' ~ declared.allowed | join(', ') -%}
    {%- else -%}
        {%- set maximum = declared.maximum or 999999999999 -%}
        {%- set is_allowed = modules.re.fullmatch('[0-9]{1,12}([.][0-9]{1,6})?', value) and value | float <= maximum -%}
        {%- set wanted = 'a number from 0 to ' ~ maximum ~ ' with at most 6 decimals' -%}
    {%- endif -%}
    {%- if declared and not is_allowed -%}
        {{ exceptions.raise_compiler_error('var ' ~ name ~ ' is ' ~ value ~ ': it must be ' ~ wanted) }}
    {%- endif -%}
    {{- return(value) -}}
{% endmacro %}


{#- Raise a compiler error if a var on the command line is not a threshold, because dbt would ignore it, or if the value
    of a threshold is not allowed. -#}
{% macro check_vars() %}
    {%- if execute -%}
    {%- set unknown = (invocation_args_dict.vars or {}) | reject('in', thresholds()) | list -%}
    {%- if unknown -%}
        {{ exceptions.raise_compiler_error(
            'unknown vars: ' ~ unknown | join(', ') ~ '. The thresholds are: ' ~ thresholds() | join(', ')
        ) }}
    {%- endif -%}
    {%- for name in thresholds() -%}{%- do threshold_value(name) -%}{%- endfor -%}
    {%- endif -%}
{% endmacro %}


{#- The missing fraction of a required minimum: 1 if all of it is missing, 0 if nothing is. Part of a candidate's
    distance. -#}
{% macro shortfall(value, minimum) %}
    greatest(0, coalesce(1 - {{ as_double(value) }} / nullif({{ as_double(minimum) }}, 0), 0))
{%- endmacro %}


{#- The fraction by which a value exceeds a maximum: 1 if it is twice the maximum, 0 if it does not exceed it. -#}
{% macro excess(value, maximum) %}
    greatest(0, coalesce({{ as_double(value) }} / nullif({{ as_double(maximum) }}, 0) - 1, 0))
{%- endmacro %}


{% macro as_double(value) %}cast({{ value }} as double){% endmacro %}
