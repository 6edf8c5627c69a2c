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
