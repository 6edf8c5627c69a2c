"""Verify, without the warehouse, that every detection file is in the bucket and unchanged."""

import hashlib

from tallymark.outbox.manifest import ManifestError, read_all
from tallymark.store import Store


def verify(store: Store, output_prefix: str) -> dict[str, int]:
    """Prove from the bucket alone that no detection file is missing and none was changed.

    Returns:
        The number of ``manifests``, ``files`` and ``rows`` checked.

    Raises:
        ManifestError: listing each file that is missing, was changed, or is in no manifest.
    """
    listed = {stored.key: stored for stored in store.list(f"{output_prefix}detections/")}
    found, manifests, files, rows = [], 0, 0, 0
    for manifests, content in enumerate(read_all(store, output_prefix), start=1):
        for file in content["files"]:
            files += 1
            name = f"{file['file_key']} (detections {file['first_detection_id']} to {file['last_detection_id']})"
            if (file["file_number"], file["first_detection_id"]) != (files, rows + 1):
                found.append(f"{name} does not continue the previous file")
            rows = file["last_detection_id"]
            stored = listed.pop(file["file_key"], None)
            if stored is None:
                found.append(f"{name} is missing")
            elif hashlib.sha256(store.get(stored)).hexdigest() != file["sha256"]:
                found.append(f"{name} was changed after it was exported")
        totals = content["total_files"], content["total_rows"]
        if totals != (files, rows):
            found.append(
                f"manifest {manifests} has total_files {totals[0]} and total_rows {totals[1]}; "
                f"the listed files add up to {files} and {rows}"
            )
    found += [f"{key} is not listed in any manifest" for key in listed]
    if found:
        count = f"{len(found)} {'problem' if len(found) == 1 else 'problems'}"
        raise ManifestError(f"Found {count} with the detection files:\n" + "\n".join(found))
    return {"manifests": manifests, "files": files, "rows": rows}
