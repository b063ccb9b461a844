"""The p2pdb protocol, version 1, written from protocol/SPEC.md alone.

Numbers in parentheses are its sections.
"""
