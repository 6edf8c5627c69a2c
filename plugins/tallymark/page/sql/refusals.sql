select kind, about, message, seen_at, rejected_file
from refusals
order by seen_at desc, kind, about
limit $limit
