{#- Run statements so that all of them count, or none. -#}
{% macro run_in_one_transaction(statements) %}
    {% call statement(auto_begin=True) %}
        {{ statements | join(';\n') }}
    {% endcall %}
    {% do adapter.commit() %}
{% endmacro %}
