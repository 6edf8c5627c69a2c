-- How a line of CSV is read. A value may be bare, in single or in double quotes; a line is a row.

-- A pattern in which `\h` in a character class stands for the characters that are trimmed: see characters.py.
create or replace temp macro with_trimmed(pattern) as replace(pattern, '\h', getvariable('trimmed'));

create or replace temp macro without_ends(text, characters) as regexp_replace(
    text, with_trimmed('^[' || characters || ']+|[' || characters || ']+$'), '', 'g'
);

-- What most writers write: single quotes or none, nothing to trim, no comma or quote inside a value. Such a line is
-- split once its quotes are gone, and its values are ready then, which is twice as quick as all that follows.
create or replace temp macro is_simple(line) as regexp_full_match(
    line, with_trimmed($$('[^'",\h]*'|[^'",\h]*)(,('[^'",\h]*'|[^'",\h]*))*$$)
);

-- Nearly every other line has neither a comma nor a quote inside its quotes: it can be split at its commas,
-- many times quicker than it can be matched field by field.
create or replace temp macro is_plain(line) as regexp_full_match(
    line,
    with_trimmed(
        $$([\h]*'[^'",]*'[\h]*|[\h]*"[^'",]*"[\h]*|[^'",]*)(,([\h]*'[^'",]*'[\h]*|[\h]*"[^'",]*"[\h]*|[^'",]*))*$$
    )
);

create or replace temp macro quoted_fields(line) as list_transform(
    regexp_extract_all(
        line || ',', with_trimmed($$([\h]*'(?:[^']|'')*'[\h]*|[\h]*"(?:[^"]|"")*"[\h]*|[^,]*),$$), 1
    ),
    lambda field: without_ends(field, '\h')
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

-- A field without the quotes and the trimmed characters around it; null: it is empty.
create or replace temp macro bare(field) as nullif(
    case
        when regexp_full_match(field, with_trimmed($$[\h]*('[^'"]*'|"[^'"]*"|[^'"]*)[\h]*$$))
            then without_ends(field, '\h''"')
        when regexp_full_match(field, $$'.*'$$) then without_ends(replace(field[2:-2], '''''', ''''), '\h')
        when regexp_full_match(field, $$".*"$$) then without_ends(replace(field[2:-2], '""', '"'), '\h')
        else without_ends(field, '\h')
    end,
    ''
);

-- The same of a field of a line that may be simple.
create or replace temp macro value(field, simple) as case when simple then nullif(field, '') else bare(field) end;

-- What no pattern reads is kept as it is, but for quotes and trimmed characters around it.
create or replace temp macro trimmed(field, simple) as case when simple then field else without_ends(field, '\h''"') end;
