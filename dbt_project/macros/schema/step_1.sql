{#- The tables that `load` and `export` write. Times are UTC. The released tables (`detections`, `chunk_thresholds`) are
    in the schema of the models. The macro keep_columns adds their evidence and threshold columns. Their keys prevent
    the same row or number from being released twice. -#}
{% macro schema_step_1() %}
    {% set tables = {
        'raw.chunks': 'chunk_seq bigint, chunk_key varchar, etag varchar, content_bytes bigint, content_sha256 varchar,
            state varchar, reason varchar, limit_setting varchar, limit_bytes bigint, rows_in_file bigint, rows_accepted bigint, rows_rejected bigint,
            importance_version bigint, landed_at timestamp, y_started_at timestamp, loaded_at timestamp',
        'raw.conflicts': 'chunk_key varchar, etag varchar, message varchar, landed_at timestamp, seen_at timestamp',
        'raw.unreadable_inputs': 'kind varchar, input_key varchar, etag varchar, reason varchar, attempts bigint,
            first_failed_at timestamp, last_failed_at timestamp, retry_at timestamp',
        'raw.ignored_inputs': 'kind varchar, about varchar, message varchar, seen_at timestamp',
        'raw.transactions': 'chunk_seq bigint, line_number bigint, step varchar, customer varchar, age varchar,
            gender varchar, zipcode_ori varchar, merchant varchar, zip_merchant varchar, category varchar,
            amount decimal(18, 4), fraud varchar',
        'raw.rejected_rows': 'chunk_seq bigint, importance_version bigint, object_key varchar,
            line_number bigint, line varchar, reason varchar',
        'raw.importance_versions': 'importance_version bigint, digest varchar, content_sha256 varchar, state varchar,
            reason varchar, limit_setting varchar, limit_bytes bigint, rows_accepted bigint, rows_rejected bigint,
            loaded_at timestamp',
        'raw.customer_importance': 'importance_version bigint, customer varchar, merchant varchar,
            weight decimal(38, 18)',
        'lake.about': 'schema_name varchar',
        'lake.loads': 'load_id varchar, chunk_seq bigint, importance_version bigint',
        'lake.builds': 'build_number bigint, build varchar, released bigint, last_chunk_seq bigint, is_finished boolean',
        'output.files': 'file_key varchar primary key, file_number bigint unique, row_count bigint,
            first_detection_id bigint, last_detection_id bigint, manifest_number bigint, chunk_seq bigint,
            sha256 varchar, body blob, planned_at timestamp, put_at timestamp',
        'output.passed_builds': 'chunk_seq bigint, passed_at timestamp, sanity_tests varchar[]',
        'output.releases': 'chunk_seq bigint, released_at timestamp',
        target.schema ~ '.detections': 'detection_id bigint primary key, y_started_at timestamp, detected_at timestamp,
            file_number bigint, pattern_id varchar not null, action_type varchar, chunk_seq bigint not null,
            merchant varchar not null, customer varchar not null, unique (pattern_id, merchant, customer)',
        target.schema ~ '.chunk_thresholds': 'chunk_seq bigint primary key',
    } %}
    {% set statements = [] %}
    {% for name in ('raw', 'lake', 'output') %}
        {% do statements.append('create schema if not exists ' ~ name) %}
    {% endfor %}
    {% for name, columns in tables.items() %}
        {% do statements.append('create table ' ~ name ~ ' (' ~ columns ~ ')') %}
    {% endfor %}
    {{- return(statements) -}}
{% endmacro %}
