"""How Parley ends an answer for each fault of the table: what its tests and script/chaos expect."""

from __future__ import annotations

STATUSES = {
    "refused": (400, 422),
    "unauthorized": (401, 403),
    "no_model": (404,),
    "rate_limited": (429,),
    "provider": (408, 409, 500, 502, 503, 504),
}
ENDINGS = {
    "stop": (
        "408-once 429-once 500-once 502-once 503-once 504-once 429-retry-once cut-once until-close gzip"
        " type-octet-stream type-charset cut-after-finish cut-after-finish-rst bytewise split-character split-event"
        " split-two-lines crlf cr no-space comments blank-lines other-fields byte-order-mark no-done"
        " finish-tool-calls finish-unknown finish-number two-finishes text-after-finish data-after-done usage-absent"
        " usage-before-finish usage-with-each usage-nulls usage-junk usage-list usage-null-with-text error-null"
        " refused choices-null choices-empty choices-missing choices-text choice-null choice-second delta-null"
        " delta-missing delta-text delta-empty delta-role-again content-null content-number content-list"
        " content-object tool-calls unknown-fields reasoning-content reasoning reasoning-both reasoning-number"
        " reasoning-only surrogate-lone surrogate-lone-low surrogate-split nul newlines line-separators"
        " injected-event injected-html controls unicode empty-deltas burst"
    ),
    "length": "finish-length",
    "content_filter": "finish-content-filter",
    # aiohttp drops a connection whose chunks are broken without a word, so these two end as a silence
    "timeout": (
        "silent-headers silent-first silent-first-comments silent-middle silent-middle-comments endless endless-slow"
        " chunk-size-junk chunk-overrun"
    ),
    "truncated": (
        "status-204 html-200-as-stream empty-200 until-close-cut cut-after-headers cut-after-headers-rst cut cut-rst"
        " cut-in-chunk cut-in-chunk-rst cut-in-character cut-in-character-rst no-finish no-finish-no-done only-done"
        " error-line"
    ),
    "protocol": (
        "html-200 json-200 json-error-200 login-302 redirect-loop not-http huge-header endless-line json-malformed"
        " json-truncated json-deep json-huge-number json-null json-list json-text data-empty utf8-invalid giant-delta"
    ),
    "provider": (
        "503-retry-after event-error event-error-bare event-error-text error-in-data error-text-in-data error-and-on"
        " error-beside-choices"
    ),
    "rate_limited": "429-retry-after 429-retry-far 429-retry-date 429-retry-junk",
    "unreachable": "cut-before-headers cut-before-headers-rst",
}
EXPECTED = {fault: ending for ending, faults in ENDINGS.items() for fault in faults.split()} | {
    f"status-{status}{kind}": code
    for code, group in STATUSES.items()
    for status in group
    for kind in ("", "-html", "-empty")
}
# What passes by itself is asked a second time, unless the provider wants to be left alone for longer than 10 s.
PASSING = {
    *(fault for fault in EXPECTED if fault.endswith("-once")),
    *(fault for fault, ending in EXPECTED.items() if ending == "unreachable"),
    *(fault for fault, ending in EXPECTED.items() if ending in ("provider", "rate_limited") and fault[:7] == "status-"),
    *("503-retry-after", "429-retry-after", "429-retry-junk"),
}
# Where all bytes are read at once, as on a busy machine, aiohttp notices broken chunks, and loses what came before them.
BUSY = {"chunk-size-junk": "protocol", "chunk-overrun": "protocol"}


def seconds(fault: str, first: float, gap: float, whole: float, retry_after: float) -> float:
    """How long Parley may take to notice, with these three deadlines and a provider that asks to wait so long."""
    if fault in ("endless", "endless-slow"):
        return whole
    waited = max(retry_after, 0.5) if fault in PASSING else 0.0
    return (gap if fault in ("silent-middle", "silent-middle-comments") else first) + waited
