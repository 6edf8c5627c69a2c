{#- Run a list of statements in one transaction. -#}
{% macro run_in_one_transaction(statements) %}
    {% call statement(auto_begin=True) %}
        {{ statements | join(';\n') }}
    {% endcall %}
    {% do adapter.commit() %}
{% endmacro %}
