{#- All rows of some models; columns that one of them lacks are null. -#}
{% macro union_all_by_name(relations) %}
    {{- return(adapter.dispatch('union_all_by_name')(relations)) -}}
{% endmacro %}

{% macro default__union_all_by_name(relations) %}
    {%- for relation in relations %}
    select * from {{ relation }}
    {%- if not loop.last %}
    union all by name
    {%- endif %}
    {%- endfor %}
{% endmacro %}
