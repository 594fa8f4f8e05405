"""Breaks Parley on purpose and holds what its users saw against the promise in docs/reliability.md.

`cluster` is the patient, `client` its users, `history` what they saw, `facts` what database and provider say, `checker`
the judge, `scenarios` what is broken and how often, `mutate` the proof that the judge is awake.
"""
