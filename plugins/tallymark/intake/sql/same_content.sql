-- Gives a chunk whose content was found again under another ETag that ETag; returns its ledger row, if there is one.
update raw.chunks set etag = $etag
where
    chunk_key = $key
    and content_bytes = $content_bytes
    and content_sha256 = $content_sha256
    and (rejected_by_limit(reason) is null or list_contains($limits, rejected_by_limit(reason)))
    and (state = 'accepted' or chunk_key not in (select chunk_key from raw.chunks where state = 'accepted'))
returning chunk_seq
