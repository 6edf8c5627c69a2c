-- How a line of CSV is read. A value may be bare, in single or in double quotes; a line is a row.

-- What most writers write: single quotes or none, no blank, no comma or quote inside a value. Such a line is split once
-- its quotes are gone, and its values are ready then, which is twice as quick as all that follows.
create or replace temp macro is_simple(line) as regexp_full_match(
    line, $$('[^'", \t]*'|[^'", \t]*)(,('[^'", \t]*'|[^'", \t]*))*$$
);

-- Nearly every other line has neither a comma nor a quote inside its quotes: it can be split at its commas,
-- many times quicker than it can be matched field by field.
create or replace temp macro is_plain(line) as regexp_full_match(
    line, $$([ \t]*'[^'",]*'[ \t]*|[ \t]*"[^'",]*"[ \t]*|[^'",]*)(,([ \t]*'[^'",]*'[ \t]*|[ \t]*"[^'",]*"[ \t]*|[^'",]*))*$$
);

create or replace temp macro quoted_fields(line) as list_transform(
    regexp_extract_all(line || ',', $$([ \t]*'(?:[^']|'')*'[ \t]*|[ \t]*"(?:[^"]|"")*"[ \t]*|[^,]*),$$, 1),
    lambda field: trim(field, e' \t')
);

-- A field whose opening quote has no closing one.
create or replace temp macro has_unbalanced_quote(line) as case
    when is_plain(line) then false
    else len(list_filter(
        quoted_fields(line),
        lambda field: regexp_full_match(field, $$['"].*$$) and not regexp_full_match(field, $$'.*'|".*"$$)
    )) > 0
end;

create or replace temp macro csv_fields(line) as case
    when is_plain(line) then string_split(line, ',')
    else quoted_fields(line)
end;

create or replace temp macro fields_of(line, simple) as case
    when simple then string_split(replace(line, '''', ''), ',')
    else csv_fields(line)
end;

-- A field without the quotes and the white space around it; null: it is empty.
create or replace temp macro bare(field) as nullif(
    case
        when regexp_full_match(field, $$[ \t]*('[^'"]*'|"[^'"]*"|[^'"]*)[ \t]*$$) then trim(field, e' \t\'"')
        when regexp_full_match(field, $$'.*'$$) then trim(replace(field[2:-2], '''''', ''''), e' \t')
        when regexp_full_match(field, $$".*"$$) then trim(replace(field[2:-2], '""', '"'), e' \t')
        else trim(field, e' \t')
    end,
    ''
);

-- The same of a field of a line that may be simple.
create or replace temp macro value(field, simple) as case when simple then nullif(field, '') else bare(field) end;

-- What no pattern reads is kept as it is, but for quotes and white space around it.
create or replace temp macro trimmed(field, simple) as case when simple then field else trim(field, e' \t\'"') end;

-- A number from its sign, its digits, and how many of them are before the point; where it has too few, zeros are added.
create or replace temp macro shifted(sign, digits, before) as
    sign || rpad('0' || left(digits, greatest(before, 0)), cast(1 + greatest(before, 0) as integer), '0')
    || '.' || repeat('0', greatest(-before, 0)) || digits[1 + greatest(before, 0):];

-- The same number without an exponent: 1.5E3 is 1500, 15e-3 is 0.015. DuckDB 1.5 reads some with one as another number
-- or as none. Whatever is no number as CSV writers write them (digits, one point, an exponent) stays what it is.
create or replace temp macro plain_number(number_text) as case
    when not regexp_full_match(number_text, '[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][+-]?[0-9]{1,3}') then number_text
    else shifted(
        regexp_extract(number_text, '^[+-]?'),
        regexp_replace(regexp_extract(number_text, '^[^eE]*'), '[+.-]', '', 'g'),
        length(regexp_extract(number_text, '^[+-]?([0-9]*)', 1)) + cast(regexp_extract(number_text, '[eE](.*)', 1) as integer)
    )
end;

-- How many decimals the value of a plain number has, without rounding: 1.50 has 1. Null: it is not a number.
create or replace temp macro number_scale(plain) as case
    when regexp_full_match(plain, '[+-]?[0-9]+\.?') then 0
    when regexp_full_match(plain, '[+-]?[0-9]*\.[0-9]+') then length(rtrim(split_part(plain, '.', 2), '0'))
end;
