insert into raw.transactions by name
select
    $chunk_seqs[file] as chunk_seq, line_number, step, customer, age, gender, zipcode_ori, merchant, zip_merchant,
    category, amount, fraud
from judged_rows
where reason is null
