{#- Differences between the released detections of a pattern and those recomputed from the raw rows.

    Args: a model with one row per chunk, merchant and customer for which the pattern's rule held at the end of the
    chunk, with the thresholds in chunk_thresholds; the pattern; the evidence columns to compare.

    Chunks before the first one in chunk_thresholds were evaluated before this warehouse was rebuilt, so their
    detections are not checked. The test depends on batch_detections because that model creates the evidence columns in
    a new warehouse. -#}
{% test detections_are_those_of(model, pattern, evidence) %}
-- depends_on: {{ ref('batch_detections') }}
{%- set columns = (['chunk_seq', 'merchant', 'customer'] + evidence) | join(', ') %}
with held as (
    select * from {{ model }}
),

detections as (
    select * from {{ source('released', 'detections') }}
    where pattern_id = '{{ tallymark.pattern(pattern).id }}'
),

given as (
    select * from detections
    where chunk_seq < (select min(chunk_seq) from {{ source('released', 'chunk_thresholds') }})
),

kept as (
    select {{ columns }} from detections
    where chunk_seq >= (select min(chunk_seq) from {{ source('released', 'chunk_thresholds') }})
),

numbered as (
    select
        *,
        row_number() over (partition by merchant, customer order by chunk_seq) as occurrence
    from held
    where not exists (
            select 1 from given
            where given.merchant = held.merchant and given.customer = held.customer
        )
),

recomputed as (
    select {{ columns }} from numbered
    where occurrence = 1 and chunk_seq <= {{ last_released_chunk() }}
)

{{ differences('kept', 'recomputed') }}
{% endtest %}
