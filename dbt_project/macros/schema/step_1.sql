{#- The tables that the load and the export write. Times are UTC. -#}
{% macro schema_step_1() %}
    {% set tables = {
        'raw.chunks': 'chunk_seq bigint, chunk_key varchar, etag varchar, state varchar, reason varchar,
            rows_in_file bigint, rows_accepted bigint, rows_rejected bigint, importance_version bigint,
            landed_at timestamp, y_started_at timestamp, loaded_at timestamp',
        'raw.conflicts': 'chunk_key varchar, etag varchar, landed_at timestamp, seen_at timestamp',
        'raw.transactions': 'chunk_seq bigint, line_number bigint, step varchar, customer varchar, age varchar,
            gender varchar, zipcode_ori varchar, merchant varchar, zip_merchant varchar, category varchar,
            amount decimal(18, 4), fraud varchar',
        'raw.rejected_rows': 'chunk_seq bigint, importance_version bigint, object_key varchar,
            line_number bigint, line varchar, reason varchar',
        'raw.importance_versions': 'importance_version bigint, digest varchar, state varchar, reason varchar,
            rows_accepted bigint, rows_rejected bigint, loaded_at timestamp',
        'raw.customer_importance': 'importance_version bigint, customer varchar, merchant varchar,
            weight decimal(38, 18)',
        'output.files': 'file_key varchar, file_number bigint, row_count bigint, first_detection_id bigint,
            last_detection_id bigint, manifest_number bigint,
            sha256 varchar, body blob, planned_at timestamp, put_at timestamp',
        'output.passed_builds': 'chunk_seq bigint, passed_at timestamp',
        'output.releases': 'chunk_seq bigint, released_at timestamp',
    } %}
    {% set statements = ['create schema if not exists raw', 'create schema if not exists output'] %}
    {% for name, columns in tables.items() %}
        {% do statements.append('create table if not exists ' ~ name ~ ' (' ~ columns ~ ')') %}
    {% endfor %}
    {{- return(statements) -}}
{% endmacro %}
