select
    count(*) as chunks,
    coalesce(sum(rows_in_file), 0)::bigint as rows_in_file,
    coalesce(sum(rows_accepted), 0)::bigint as rows_accepted,
    coalesce(sum(rows_rejected), 0)::bigint as rows_rejected,
    count(*) filter (where state = 'rejected') as chunks_rejected,
    (select conflict_count from current) as conflicts
from ledger
