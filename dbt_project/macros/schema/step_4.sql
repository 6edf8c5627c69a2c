{#- Chunks that S3 refused while it answered for others: what waits, and why. -#}
{% macro schema_step_4() %}
    {{- return([
        'create table raw.refused_chunks (chunk_key varchar, etag varchar, reason varchar, refused_at timestamp)',
    ]) -}}
{% endmacro %}
