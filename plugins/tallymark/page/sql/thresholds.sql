select columns(lambda name: name not like '%aggregate')::double, columns('.*aggregate') from thresholds
