select columns(c -> c not like '%aggregate')::double, columns('.*aggregate') from thresholds
