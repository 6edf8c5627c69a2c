{#- The start of the transaction in UTC, as a timestamp without time zone. Only for hooks: models are deterministic. -#}
{% macro utc_now() %}cast(now() at time zone 'UTC' as timestamp){% endmacro %}
