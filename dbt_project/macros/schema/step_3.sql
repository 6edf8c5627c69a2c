{#- A file is decided on once, and is known to be that of the rejected rows of a chunk. Older warehouses may hold two plans
    with one key, of which the first one was put; and a chunk's file by its name alone. -#}
{% macro schema_step_3() %}
    {{- return([
        'alter table output.files rename to files_before',
        'create table output.files (file_key varchar primary key, file_number bigint unique, row_count bigint,
            first_detection_id bigint, last_detection_id bigint, manifest_number bigint, chunk_seq bigint,
            sha256 varchar, body blob, planned_at timestamp, put_at timestamp)',
        "insert into output.files by name
        with rejected_files as (
            select files.file_key, min(chunks.chunk_seq) as chunk_seq
            from (
                select
                    chunk_seq,
                    'rejected/' || regexp_replace(
                        regexp_extract(rtrim(chunk_key, '/'), '[^/]*$'), '([.]csv)?([.]gz)?$', '', 'i'
                    ) as name
                from raw.chunks
                where rows_rejected > 0
            ) as chunks
            inner join output.files_before as files
                on ends_with(files.file_key, chunks.name || '.csv')
                or ends_with(files.file_key, chunks.name || '-' || chunks.chunk_seq || '.csv')
            group by files.file_key
        )
        select files.*, rejected_files.chunk_seq
        from output.files_before as files
        left join rejected_files on files.file_key = rejected_files.file_key
        qualify row_number() over (partition by files.file_key order by files.put_at nulls last, files.rowid) = 1",
        'drop table output.files_before',
    ]) -}}
{% endmacro %}
