"""Outcome codes (6.2) and the one exception of this package."""

CODES = {
    "stored": 0, "known": 1, "dropped": 2,
    "too_large": 10, "malformed": 11, "non_canonical": 12, "unknown_version": 13,
    "bad_recipients": 14, "bad_expiry": 15, "body_mismatch": 16,
    "created_in_future": 20, "expired": 21, "beyond_horizon": 22,
    "work_malformed": 30, "work_insufficient": 31,
    "table_not_mirrored": 40, "table_key_missing": 41, "table_key_invalid": 42, "signature_invalid": 43,
    "quota_exceeded": 50, "busy": 60, "store_failed": 61,
}  # fmt: skip


class Refused(Exception):
    """Something was refused; `name` is that of 6.2, or one of this package's own where 6.2 has none."""

    def __init__(self, name: str, detail: str = "") -> None:
        super().__init__(f"{name}: {detail}" if detail else name)
        self.name = name


class Truncated(Refused):
    """The bytes end inside an item."""

    def __init__(self) -> None:
        super().__init__("malformed", "the bytes end inside an item")
