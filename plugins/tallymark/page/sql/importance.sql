select importance_version, state, reason, rows_accepted, rows_rejected, loaded_at
from importance_versions
order by importance_version desc
