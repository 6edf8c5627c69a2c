{#- The tables that the load and the export write. The project owns them, so that it also runs on an
    empty warehouse; the Python steps only insert into them. Times are UTC. -#}
{% macro create_raw_tables() %}
    {% if execute and not raw_tables_exist() %}
    {% do run_query('create schema if not exists raw') %}
    {% do run_query('create schema if not exists output') %}
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
        'raw.refused_chunks': 'chunk_key varchar, etag varchar, reason varchar, refused_at timestamp',
    } %}
    {% for name, columns in tables.items() %}
        {% do run_query('create table if not exists ' ~ name ~ ' (' ~ columns ~ ')') %}
    {% endfor %}
    {% endif %}
{% endmacro %}


{#- Any run of models unsettles what the last build that passed its tests had vouched for. -#}
{% macro forget_passed_build() %}
    {% if execute and flags.WHICH in ('build', 'run') %}
    {% do run_query('delete from output.passed_builds') %}
    {% endif %}
{% endmacro %}
