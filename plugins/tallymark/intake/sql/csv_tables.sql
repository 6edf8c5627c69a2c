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

create or replace temp table found_rejected (file integer, line_number bigint, reason varchar)
