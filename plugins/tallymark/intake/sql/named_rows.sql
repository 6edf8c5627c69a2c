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
