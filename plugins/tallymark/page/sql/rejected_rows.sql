select chunk_seq, importance_version, object_key, line_number, reason, line from rejected_rows limit $limit
