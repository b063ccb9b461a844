"""Counts what holds and what does not."""


class Checks:
    def __init__(self):
        self.passed = self.failed = 0

    def check(self, holds: bool, what: str):
        if holds:
            self.passed += 1
        else:
            self.failed += 1
        print(f"{'ok  ' if holds else 'FAIL'} {what}", flush=True)

    def equal(self, found, expected, what: str):
        self.check(found == expected, what if found == expected else f"{what}: got {found!r}, expected {expected!r}")
