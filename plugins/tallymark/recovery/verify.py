"""Is every detection file in the bucket? Proved from the bucket alone, without the warehouse."""

import hashlib

from tallymark.outbox.manifest import ManifestError, read_all
from tallymark.store import Store


def verify(store: Store, output_prefix: str) -> dict[str, int]:
    """Prove from the bucket alone that every detection file is there, as it was put, and that none is missing.

    Returns:
        How many ``manifests``, ``files`` and ``rows`` were checked.

    Raises:
        ManifestError: naming each file that is missing, changed, or that no manifest announces.
    """
    listed = {stored.key: stored for stored in store.list(f"{output_prefix}detections/")}
    found, manifests, files, rows = [], 0, 0, 0
    for manifests, content in enumerate(read_all(store, output_prefix), start=1):
        for file in content["files"]:
            files += 1
            name = f"{file['file_key']} ({file['row_count']} rows, from number {file['first_detection_id']})"
            if (file["file_number"], file["first_detection_id"]) != (files, rows + 1):
                found.append(f"{name} does not follow the file before it")
            rows = file["last_detection_id"]
            stored = listed.pop(file["file_key"], None)
            if stored is None:
                found.append(f"{name} is missing")
            elif hashlib.sha256(store.get(stored)).hexdigest() != file["sha256"]:
                found.append(f"{name} was changed after it was put")
        if (content["total_files"], content["total_rows"]) != (files, rows):
            found.append(f"manifest {manifests} counts {content['total_files']} files, there are {files}")
    found += [f"{key} is announced by no manifest" for key in listed]
    if found:
        raise ManifestError(f"{len(found)} things are wrong:\n" + "\n".join(found))
    return {"manifests": manifests, "files": files, "rows": rows}
