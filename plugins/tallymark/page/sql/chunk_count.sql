select count(*) as found
from ledger
where
    ($state = '' or state = $state or ($state = 'with rejected rows' and rows_rejected > 0))
    and ($chunk = '' or contains(lower(chunk_key), lower($chunk)))
