"""The audit log: who did what, from where and how; numbered, authenticated, verified, exported.

``watch`` writes the entries of changed users, groups, grants, tokens and credentials, ``sign_ins`` those of
people who sign in; all others are written by ``nodes.events.record``. ``sealer`` gives each its number,
``verification`` says what was tampered with, ``retention`` lets go what is old.
"""
