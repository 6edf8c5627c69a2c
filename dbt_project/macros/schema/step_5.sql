{#- What were models of their own and are parts of others now: nobody brings these up to date any more. -#}
{% macro schema_step_5() %}
    {{- return([
        'drop table if exists upgrade',
        'drop table if exists child',
        'drop table if exists dei_needed',
        'drop view if exists stg_activity',
        'drop view if exists stg_chunks',
        'drop view if exists stg_customer_importance',
        'drop view if exists stg_transactions',
    ]) -}}
{% endmacro %}
