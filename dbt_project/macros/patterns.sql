{#- The names of all patterns, sorted. A pattern is a model with a macro `rule_of_<model>` in its file; dbt knows all
    macros before it parses a model, so that batch_candidates can refer to patterns that it does not name. -#}
{% macro pattern_names() %}
    {%- set names = [] -%}
    {%- for name in context if name.startswith('rule_of_') -%}
        {%- do names.append(name[8:]) -%}
    {%- endfor -%}
    {{- return(names | sort) -}}
{% endmacro %}


{#- What the yml of a pattern declares under `meta`: id, action, rule, evidence and thresholds. Empty where dbt shows
    macros no graph: while it parses, and in unit tests. -#}
{% macro pattern(name) %}
    {{- return(graph.nodes['model.' ~ project_name ~ '.' ~ name].config.meta.pattern if graph.nodes else {}) -}}
{% endmacro %}


{#- Candidates of all patterns. Columns of evidence that a pattern lacks are null. -#}
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


{#- The columns of the evidence, of one pattern or of all, and their types: those that the yml declares. Empty where
    `pattern` is. -#}
{% macro evidence_types(name=none) %}
    {%- set types = {} -%}
    {%- for pattern_name in ([name] if name else pattern_names()) if graph.nodes -%}
        {%- for column in graph.nodes['model.' ~ project_name ~ '.' ~ pattern_name].columns.values() -%}
            {%- if not column.data_type -%}
                {{ exceptions.raise_compiler_error(pattern_name ~ '.yml gives the column ' ~ column.name ~ ' no data_type') }}
            {%- endif -%}
            {%- do types.update({column.name: column.data_type}) -%}
        {%- endfor -%}
    {%- endfor -%}
    {{- return(types) -}}
{% endmacro %}


{#- Whether the evidence in a row of batch_detections satisfies the rule of the row's pattern; null if a column is. -#}
{% macro satisfies_the_rule() %}
    case pattern_id
        {%- for name in pattern_names() %}
        when '{{ pattern(name).id }}' then {{ context['rule_of_' ~ name]() }}
        {%- endfor %}
        else false
    end
{% endmacro %}


{#- The thresholds of all patterns, by name: what each declares. Empty where `pattern` is. -#}
{% macro thresholds() %}
    {%- set declared = {} -%}
    {%- for name in pattern_names() -%}
        {%- do declared.update(pattern(name).thresholds or {}) -%}
    {%- endfor -%}
    {{- return(declared) -}}
{% endmacro %}


{#- A threshold as SQL: a number as an exact decimal, a word as text. -#}
{% macro threshold(name) %}
    {%- set value = threshold_value(name) -%}
    {%- if modules.re.fullmatch('[0-9.]+', value) -%}
        cast('{{ value }}' as decimal(18, 6))
    {%- else -%}
        '{{ value }}'
    {%- endif -%}
{% endmacro %}


{#- All thresholds as columns of a query. -#}
{% macro thresholds_in_force() %}
    {%- set columns = [] -%}
    {%- for name in thresholds() -%}
        {%- do columns.append(threshold(name) ~ ' as ' ~ name) -%}
    {%- endfor -%}
    {{- columns | join(',\n        ') -}}
{% endmacro %}


{#- The value of a threshold: the var of that name, or the default that its pattern declares. Unit tests set each
    threshold that they need. Raises a compiler error for a value that the declaration does not allow; a number has at
    most 12 digits before and 6 after the point. -#}
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


{#- Raises a compiler error for vars of the command line that are no threshold, which dbt would ignore, and for values
    that are not allowed. -#}
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


{#- How much of a required minimum is missing: 1 of all of it, 0 of nothing. For the distance of a candidate. -#}
{% macro shortfall(value, minimum) %}
    greatest(0, coalesce(1 - {{ as_double(value) }} / nullif({{ as_double(minimum) }}, 0), 0))
{%- endmacro %}


{#- By how much a value exceeds a required maximum: 1 by as much again, 0 not at all. -#}
{% macro excess(value, maximum) %}
    greatest(0, coalesce({{ as_double(value) }} / nullif({{ as_double(maximum) }}, 0) - 1, 0))
{%- endmacro %}


{% macro as_double(value) %}cast({{ value }} as double){% endmacro %}
