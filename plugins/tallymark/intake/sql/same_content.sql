-- Gives a chunk whose content was found again under another ETag that ETag; returns its ledger row, if there is one.
update raw.chunks set etag = $etag
where
    chunk_key = $key
    and content_bytes = $content_bytes
    and content_sha256 = $content_sha256
    and chunk_seq in (select chunk_seq from known_chunks)
returning chunk_seq
