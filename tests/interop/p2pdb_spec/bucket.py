"""Buckets and their digests (5.5, 5.6)."""

from collections.abc import Iterable
from hashlib import md5
from itertools import groupby

Summary = tuple[int, int, bytes]
"""Bucket, count, digest."""


def bucket_of(entry_id: bytes, bits: int) -> int:
    return int.from_bytes(entry_id[:2], "big") >> 16 - bits


def index(entry_ids: Iterable[bytes], bits: int) -> list[Summary]:
    """The non-empty buckets in ascending order; an id given twice counts once."""
    groups = groupby(sorted(set(entry_ids)), key=lambda entry_id: bucket_of(entry_id, bits))
    return [
        (bucket, len(ids), md5(b"".join(ids)).digest()) for bucket, ids in ((b, list(g)) for b, g in groups)
    ]
