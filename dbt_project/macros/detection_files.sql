{#- Whether a detection file breaks the sequence: there is a gap after the previous file, or its row count is wrong or
    not between 1 and 50. -#}
{% macro is_out_of_order() %}
    row_count not between 1 and 50
    or row_count <> last_detection_id - first_detection_id + 1
    or file_number <> file_number_before + 1
    or first_detection_id <> last_detection_id_before + 1
{%- endmacro %}
