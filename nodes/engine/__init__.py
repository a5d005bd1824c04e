"""Runs operations: the row is the job. Submit, claim under a lease, run, resume."""
