-- Macros that parse a line of CSV. Each line is a row. Values may be bare, in single quotes or in double quotes.

-- Replaces `\h` in the character classes of a pattern with the trimmed characters; see characters.py.
create or replace temp macro with_trimmed(pattern) as replace(pattern, '\h', getvariable('trimmed'));

create or replace temp macro without_ends(text, characters) as regexp_replace(
    text, with_trimmed('^[' || characters || ']+|[' || characters || ']+$'), '', 'g'
);

-- True for most lines: values bare or in single quotes, nothing to trim, no comma or quote inside a value. Removing the
-- quotes and splitting such a line yields its values, twice as fast as the macros below.
create or replace temp macro is_simple(line) as regexp_full_match(
    line, with_trimmed($$('[^'",\h]*'|[^'",\h]*)(,('[^'",\h]*'|[^'",\h]*))*$$)
);

-- True for nearly all other lines: no comma or quote inside quotes. Splitting such a line at its commas is many times
-- faster than matching its fields.
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

-- True if a field has an opening quote without a closing one, or text after the closing quote.
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

-- A field without the quotes and trimmed characters around it; null if it is empty.
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

-- The value of a field of any line; null if it is empty.
create or replace temp macro value(field, simple) as case when simple then nullif(field, '') else bare(field) end;

-- The text of a field that no pattern uses, without quotes and trimmed characters around it.
create or replace temp macro trimmed(field, simple) as case when simple then field else without_ends(field, '\h''"') end;
