{#- Drop the tables of all models. Used before raw rows move to Spark, where state is rebuilt. -#}
{% macro drop_models() %}
    {%- for node in graph.nodes.values() if node.resource_type == 'model' and node.config.materialized != 'ephemeral' -%}
        {%- do adapter.drop_relation(api.Relation.create(node.database, node.schema, node.name, type='table')) -%}
    {%- endfor -%}
{% endmacro %}
