"""Waiting for something, and for work that blocks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any


async def off_loop(work: Callable[..., Any], *values: Any) -> Any:
    """Something that blocks, in a thread."""
    return await asyncio.to_thread(work, *values)


async def until(happened: Callable[[], Awaitable[Any] | Any], patience: float, every: float = 0.05) -> Any:
    """Wait until it is true and return it; what it was last when the time is over."""
    end = time.monotonic() + patience
    while True:
        result = happened()
        if isinstance(result, Awaitable):
            result = await result
        if result or time.monotonic() > end:
            return result
        await asyncio.sleep(every)
