{#- The time of the transaction in UTC, as a timestamp without time zone. For hooks: no model has a clock. -#}
{% macro utc_now() %}cast(now() at time zone 'UTC' as timestamp){% endmacro %}
