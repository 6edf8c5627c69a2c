-- Rows carry their numbers, so cores need not wait for each other to keep them in order.
set preserve_insertion_order = false;

-- What is read line by line: the files with the positions of their columns (null: it has none of that name), their lines,
-- and what these say. Of a file that is read by columns, there are lines only when a row of it was rejected.
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

-- A number from its sign, its digits, and how many of them are before the point; where it has too few, zeros are added.
create or replace temp macro shifted(sign, digits, before) as
    sign || rpad('0' || left(digits, greatest(before, 0)), cast(1 + greatest(before, 0) as integer), '0')
    || '.' || repeat('0', greatest(-before, 0)) || digits[1 + greatest(before, 0):];

-- The same number without an exponent: 1.5E3 is 1500, 15e-3 is 0.015. DuckDB 1.5 reads some with one as another number
-- or as none. Whatever is no number as CSV writers write them (digits, one point, an exponent) stays what it is.
create or replace temp macro plain_number(number_text) as case
    when not contains(lower(number_text), 'e') then number_text
    when not regexp_full_match(number_text, '[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][+-]?[0-9]{1,3}') then number_text
    else shifted(
        regexp_extract(number_text, '^[+-]?'),
        regexp_replace(regexp_extract(number_text, '^[^eE]*'), '[+.-]', '', 'g'),
        length(regexp_extract(number_text, '^[+-]?([0-9]*)', 1)) + cast(regexp_extract(number_text, '[eE](.*)', 1) as integer)
    )
end;

-- How many decimals the value of a plain number has, without rounding: 1.50 has 1. Null: it is not a number.
create or replace temp macro number_scale(plain) as case
    when regexp_full_match(plain, '[+-]?[0-9]*\.[0-9]+') then length(rtrim(plain, '0')) - instr(plain, '.')
    when regexp_full_match(plain, '[+-]?[0-9]+\.?') then 0
end;

-- A value of a required column; null: it is empty or one of the words for a missing value. Nearly every value differs
-- from the words in its length or by a digit at its start, which is several times quicker to see than a look-up.
create or replace temp macro present(value) as case
    when strlen(value) not between getvariable('missing').shortest and getvariable('missing').longest
        then nullif(value, '')
    when value between '0' and ':' and not getvariable('missing').begin_with_digit then value
    when not list_contains(getvariable('missing').words, lower(value)) then value
end;

-- All rows by the names of their columns: those that were split line by line, and those of clean files, which the
-- CSV reader of DuckDB reads each time that it is asked. No value holds a line end, so none that is empty becomes null.
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
