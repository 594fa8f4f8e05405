"""Parley through real proxies: the checks that tests/test_proxies.py runs in short, and script/proxies at length."""
