-- Rows have line numbers, so threads need not wait for each other to keep the order.
set preserve_insertion_order = false;

-- Files that are read line by line, with the positions of their columns (null if a file lacks the column), their lines
-- and their values. `file_rows` also has the lines of clean files with rejected rows.
create or replace temp table files (
    file integer, width bigint, customer bigint, merchant bigint, gender bigint, amount bigint,
    step bigint, age bigint, zipcodeori bigint, zipmerchant bigint, category bigint, fraud bigint, weight bigint
);

create or replace temp table file_rows (file integer, line_number bigint, line varchar, is_undecodable boolean);

create or replace temp table split_rows (
    file integer, line_number bigint, flaw varchar, customer varchar, merchant varchar, gender varchar, amount varchar,
    step varchar, age varchar, zipcodeori varchar, zipmerchant varchar, category varchar, fraud varchar, weight varchar
);

create or replace temp table found_rejected (file integer, line_number bigint, reason varchar);

-- The text of a number, from its sign, its digits and the number of digits before the decimal point. Zeros are added
-- where digits are missing.
create or replace temp macro shifted(sign, digits, before) as
    sign || rpad('0' || left(digits, greatest(before, 0)), cast(1 + greatest(before, 0) as integer), '0')
    || '.' || repeat('0', greatest(-before, 0)) || digits[1 + greatest(before, 0):];

-- A number without its exponent: 1.5E3 becomes 1500, and 15e-3 becomes 0.015. DuckDB 1.5 casts some numbers with an
-- exponent to a wrong value, or not at all. Any other text is unchanged.
create or replace temp macro plain_number(number_text) as case
    when not contains(lower(number_text), 'e') then number_text
    when not regexp_full_match(number_text, '[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][+-]?[0-9]{1,3}') then number_text
    else shifted(
        regexp_extract(number_text, '^[+-]?'),
        regexp_replace(regexp_extract(number_text, '^[^eE]*'), '[+.-]', '', 'g'),
        length(regexp_extract(number_text, '^[+-]?([0-9]*)', 1)) + cast(regexp_extract(number_text, '[eE](.*)', 1) as integer)
    )
end;

-- The number of decimal places of a plain number, without trailing zeros: 1 for 1.50. Null if it is not a number.
create or replace temp macro number_scale(plain) as case
    when regexp_full_match(plain, '[+-]?[0-9]*\.[0-9]+') then length(rtrim(plain, '0')) - instr(plain, '.')
    when regexp_full_match(plain, '[+-]?[0-9]+\.?') then 0
end;

-- A value of a required column; null if it is empty or a word for a missing value. The first two checks rule out nearly
-- every value by its length or first digit, several times faster than the lookup.
create or replace temp macro present(value) as case
    when strlen(value) not between getvariable('missing').shortest and getvariable('missing').longest
        then nullif(value, '')
    when value between '0' and ':' and not getvariable('missing').begin_with_digit then value
    when not list_contains(getvariable('missing').words, lower(value)) then value
end;

-- All rows by column name: those that were split line by line, and those of clean files. DuckDB's CSV reader reads them
-- whenever this view is queried. `nullstr` is a line end, which no value contains, so empty values stay empty.
create or replace temp view named_rows as
select
    file,
    line_number,
    flaw,
    present(customer) as customer,
    present(merchant) as merchant,
    present(gender) as gender,
    present(amount) as amount,
    present(weight) as weight,
    step,
    age,
    zipcodeori as zipcode_ori,
    zipmerchant as zip_merchant,
    category,
    fraud
from (
    from split_rows
    union all by name
    from read_csv(
        getvariable('clean_rows'), columns = getvariable('clean_columns'), auto_detect = false, header = false,
        delim = ',', new_line = '\n', quote = '''', escape = '''', nullstr = e'\n'
    )
)
