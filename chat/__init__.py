"""Parley's one app.

A question opens an answer; a run writes events to the answer's log; every screen follows the log; the row
decides how it ended.

The rooms, from the ground up. A room imports only from lower floors; tests/test_floors.py enforces it.

    0 values    events (the vocabulary), text (what a model sends, made safe); made of these: sse (wire format),
                history (what fits a model's context); and redis_client (commands for Redis, in a bounded time)
    1 outside   models (rows), replay (logs), providers (models of language), groups (nudges), presence
                (heartbeats), markdown (final HTML), database (one unit of its work, from async code)
    2 work      runner (provider -> log -> row), readers (who follows what, and whether they still may)
    3 verbs     answers (ask, regenerate, stop, follow), dashboard (what staff see live)
    4 doors     views, consumers, admin, management, middleware (bearer tokens), templatetags, service (start and
                drain of a server process)
    5 maps      urls, routing, apps
"""
