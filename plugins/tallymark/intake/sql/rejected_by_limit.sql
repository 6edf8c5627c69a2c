-- Which of the limits, with its value, the reason of a rejection ends in; null: it hangs on no setting.
create or replace temp macro rejected_by_limit(reason) as
    nullif(regexp_extract(reason, '[0-9]+ \(setting [a-z_]+\)$'), '');
