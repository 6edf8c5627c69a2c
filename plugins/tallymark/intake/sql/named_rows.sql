-- All rows by the names of their columns: those that were split line by line, and those of clean files, which the
-- CSV reader of DuckDB reads each time that it is asked. No value holds a line end, so none that is empty becomes null.
create or replace temp view named_rows as
select
    file,
    line_number,
    flaw,
    nullif(customer, '') as customer,
    nullif(merchant, '') as merchant,
    nullif(gender, '') as gender,
    nullif(amount, '') as amount,
    nullif(weight, '') as weight,
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
