"""What Parley is measured with: a provider whose right answers are known, and a client that loads it.

The application imports nothing from here. Reading order: script, wire, ledger, answer, faults, fake_provider;
then load, parley and run.
"""
