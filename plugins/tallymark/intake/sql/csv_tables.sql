-- What judge_transactions.sql and judge_importance.sql read: each file with the positions of its columns (null: it has
-- none of that name), and the lines of all files.
create or replace temp table files (
    file integer, width bigint, customer bigint, merchant bigint, gender bigint, amount bigint,
    step bigint, age bigint, zipcodeori bigint, zipmerchant bigint, category bigint, fraud bigint, weight bigint
);

create or replace temp table file_rows (file integer, line_number bigint, line varchar, is_undecodable boolean)
