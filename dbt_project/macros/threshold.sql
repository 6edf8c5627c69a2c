{#- A threshold var as an exact decimal. Raises a compiler error unless it is a plain number of at most
    12 digits before and 6 after the point. -#}
{% macro threshold(name) %}
    {%- set value = var(name) | string | trim -%}
    {%- if not modules.re.fullmatch('[0-9]{1,12}([.][0-9]{1,6})?', value) -%}
        {{ exceptions.raise_compiler_error(
            "var " ~ name ~ " is " ~ value ~ ": it must be a number >= 0 with at most 6 decimals"
        ) }}
    {%- endif -%}
    cast('{{ value }}' as decimal(18, 6))
{%- endmacro %}


{#- The values of some vars as one line of text, to be kept with a detection: `a=1, b=2.5`. -#}
{% macro thresholds_in_force(names) %}
    {%- set pairs = [] -%}
    {%- for name in names -%}
        {%- do pairs.append(name ~ '=' ~ var(name)) -%}
    {%- endfor -%}
    cast('{{ pairs | join(", ") }}' as {{ dbt.type_string() }})
{%- endmacro %}


{#- Raises a compiler error for vars of the command line that dbt_project.yml does not have: dbt would ignore them. -#}
{% macro check_vars() %}
    {% if execute %}
    {% set known = graph.nodes['model.' ~ project_name ~ '.batch_thresholds'].config.meta.vars %}
    {% set unknown = (invocation_args_dict.vars or {}) | reject('in', known) | list %}
    {% if unknown %}
        {{ exceptions.raise_compiler_error(
            "unknown vars: " ~ unknown | join(", ") ~ ". Those of dbt_project.yml are: " ~ known | join(", ")
        ) }}
    {% endif %}
    {% endif %}
{% endmacro %}
