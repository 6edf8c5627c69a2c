{#- What an export released. Only the export adds to it; its keys let nothing be released twice, or under the number of
    something else. Evidence and thresholds are columns that the models bring: macro keep_columns. -#}
{% macro schema_step_2() %}
    {% set released = 'where chunk_seq <= (select max(chunk_seq) from output.releases)' %}
    {{- return(
        released_table(
            'detections',
            'detection_id bigint primary key, y_started_at timestamp, detected_at timestamp, file_number bigint,
            pattern_id varchar not null, action_type varchar, chunk_seq bigint not null, merchant varchar not null,
            customer varchar not null, unique (pattern_id, merchant, customer)',
            released ~ ' order by detection_id'
        )
        + released_table(
            'chunk_thresholds',
            'chunk_seq bigint primary key',
            released ~ ' qualify row_number() over (partition by chunk_seq order by rowid) = 1'
        )
        + ['delete from output.passed_builds']
    ) -}}
{% endmacro %}


{#- Statements that make a table anew, with those rows of the one that a model of the first versions made.
    A model that was run by hand could look at a released chunk again: the first row is what was in force. -#}
{% macro released_table(name, columns, rows) %}
    {% set table = api.Relation.create(target.database, target.schema, name) %}
    {% set before = adapter.get_relation(target.database, target.schema, name) %}
    {% set statements = ['create table ' ~ table ~ ' (' ~ columns ~ ')'] %}
    {% if before %}
        {% set aside = api.Relation.create(target.database, target.schema, name ~ '_before') %}
        {% do statements.insert(0, 'alter table ' ~ before ~ ' rename to ' ~ aside.identifier) %}
        {% for column in adapter.get_columns_in_relation(before) %}
            {% do statements.append(
                'alter table ' ~ table ~ ' add column if not exists ' ~ column.quoted ~ ' ' ~ column.data_type
            ) %}
        {% endfor %}
        {% do statements.append('insert into ' ~ table ~ ' by name select * from ' ~ aside ~ ' ' ~ rows) %}
        {% do statements.append('drop table ' ~ aside) %}
    {% endif %}
    {{- return(statements) -}}
{% endmacro %}
