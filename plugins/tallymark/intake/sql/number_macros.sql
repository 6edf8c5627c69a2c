-- How a number is read.

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
