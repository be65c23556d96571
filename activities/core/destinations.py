"""Kinds of object storage: which of them can hold a lake, and which cannot.

A lake needs objects that are created once, whoever else tries (`If-None-Match: *` on PUT and on
CompleteMultipartUpload), documents that are replaced on condition (`If-Match`), metadata of objects, copies, listings,
and uploads in equal parts.
docs/guides/connections.md has the whole matrix.
"""

from urllib.parse import urlsplit

GUIDE = "see the matrix in docs/guides/connections.md"

_GOOGLE = (
    "Google Cloud Storage takes no precondition on multipart uploads (completing one replaces what is there), and does "
    "not look at If-None-Match when it writes: two workers could replace each other's files. Use a bucket of S3, R2, "
    f"MinIO, Ceph or SeaweedFS; {GUIDE}"
)
_AZURE = (
    "Azure Blob Storage does not speak S3. Use a bucket of S3, R2, MinIO, Ceph or SeaweedFS, or put a gateway before "
    f"it that honours If-None-Match, and try it with `icefleet config check --destination`; {GUIDE}"
)
_LOCAL = (
    "a directory of one machine is seen by neither other workers nor readers, and has no uploads that are completed on "
    f"condition. `icefleet local up` has a store that speaks S3; {GUIDE}"
)
_HOSTS = {
    "storage.googleapis.com": _GOOGLE,
    "storage.cloud.google.com": _GOOGLE,
    "core.windows.net": _AZURE,
    "azure.com": _AZURE,
    "azure.net": _AZURE,
    "fabric.microsoft.com": _AZURE,
}
"""Ends of hosts' names."""
_SCHEMES = {
    **dict.fromkeys(("gs", "gcs"), _GOOGLE),
    **dict.fromkeys(("abfs", "abfss", "wasb", "wasbs", "adl", "az", "azure"), _AZURE),
    **dict.fromkeys(("file", ""), _LOCAL),
}


def refusal(endpoint: str) -> str:
    """Why the storage at an address cannot hold a lake, and what can; empty when it may."""
    parts = urlsplit(endpoint)
    if parts.scheme in _SCHEMES:
        return _SCHEMES[parts.scheme]
    if parts.scheme not in {"http", "https"}:
        return "expected the http:// or https:// address of a store that speaks S3; the bucket has a key of its own"
    host = (parts.hostname or "").rstrip(".")
    return next((why for end, why in _HOSTS.items() if host == end or host.endswith(f".{end}")), "")
