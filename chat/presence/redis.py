"""Presence that several processes share, in Redis, whose clock alone decides who has been silent for too long.

One hash for each place: member -> when it expires (epoch ms), a space, and its info. One sorted set of all places, by when
their last member expires. Everything expires by itself.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.conf import settings

from chat.presence.base import EXPIRY_SECONDS, Beat, Presence
from chat.redis_client import Link, Script, Word

# Beats in one call of the script: Redis does nothing else meanwhile.
BATCH = 500

_NOW = """
local function now()
    local time = redis.call('TIME')
    return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local function expires(value) return tonumber(string.match(value, '^%d+')) end
"""

# KEYS: the set of places. ARGV: beginning of the places' keys, life in ms, then place, member and info of each beat.
_BEAT = Script(
    _NOW
    + """
local places, prefix, life = KEYS[1], ARGV[1], ARGV[2]
local time = now()
local ends = string.format('%.0f', time + tonumber(life))
local seen = {}
for n = 3, #ARGV, 3 do
    local key = prefix .. ARGV[n]
    redis.call('HSET', key, ARGV[n + 1], ends .. ' ' .. ARGV[n + 2])
    if not seen[key] then
        seen[key] = true
        redis.call('PEXPIRE', key, life)
        redis.call('ZADD', places, ends, ARGV[n])
        local held = redis.call('HGETALL', key)
        for m = 1, #held, 2 do
            if expires(held[m + 1]) <= time then redis.call('HDEL', key, held[m]) end
        end
    end
end
redis.call('ZREMRANGEBYSCORE', places, '-inf', string.format('%.0f', time))
redis.call('PEXPIRE', places, life)
"""
)

# KEYS: the set of places, the place's hash. ARGV: place, member. The place lives as long as the longest of the others.
_LEAVE = Script(
    _NOW
    + """
redis.call('HDEL', KEYS[2], ARGV[2])
local last = 0
for _, value in ipairs(redis.call('HVALS', KEYS[2])) do last = math.max(last, expires(value)) end
if last > 0 then
    redis.call('ZADD', KEYS[1], string.format('%.0f', last), ARGV[1])
else
    redis.call('ZREM', KEYS[1], ARGV[1])
end
"""
)

# KEYS: the set of places. ARGV: places. Returns those where somebody is.
_LIVING = Script(
    _NOW
    + """
local time, living = now(), {}
for _, place in ipairs(ARGV) do
    local ends = redis.call('ZSCORE', KEYS[1], place)
    if ends and tonumber(ends) > time then living[#living + 1] = place end
end
return living
"""
)

# KEYS: the set of places. ARGV: beginning of the places' keys. Returns place, member, info, and so on.
_MEMBERS = Script(
    _NOW
    + """
local time, found = now(), {}
for _, place in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], string.format('(%.0f', time), '+inf')) do
    local held = redis.call('HGETALL', ARGV[1] .. place)
    for n = 1, #held, 2 do
        if expires(held[n + 1]) > time then
            found[#found + 1] = place
            found[#found + 1] = held[n]
            found[#found + 1] = string.match(held[n + 1], ' (.*)$')
        end
    end
end
return found
"""
)


class RedisPresence(Presence):
    """Each verb is one round trip."""

    def __init__(self, expiry: float = EXPIRY_SECONDS, url: str | None = None, prefix: str | None = None) -> None:
        self._life = round(expiry * 1000)
        self._link = Link(url or settings.REDIS_URL)
        self._places = f"{prefix or settings.REDIS_PREFIX}:places"
        self._hash = f"{prefix or settings.REDIS_PREFIX}:place:"  # with the place behind it

    async def beat(self, beats: Sequence[Beat]) -> None:
        words = [(beat.place, beat.member, json.dumps(dict(beat.info))) for beat in beats]
        batches = [words[n : n + BATCH] for n in range(0, len(words), BATCH)]
        calls = [([self._places], [self._hash, self._life, *sum(batch, ())]) for batch in batches]
        if calls:
            await self._link.evaluate(_BEAT, calls)

    async def leave(self, place: str, member: str) -> None:
        await self._link.evaluate(_LEAVE, [([self._places, self._hash + place], [place, member])])

    async def living(self, places: Iterable[str]) -> set[str]:
        asked: list[Word] = list(dict.fromkeys(places))
        if not asked:
            return set()
        [living] = await self._link.evaluate(_LIVING, [([self._places], asked)])
        return {place.decode() for place in living}

    async def members(self) -> dict[str, dict[str, Mapping[str, Any]]]:
        [found] = await self._link.evaluate(_MEMBERS, [([self._places], [self._hash])])
        everybody: dict[str, dict[str, Mapping[str, Any]]] = {}
        for place, member, info in zip(*[iter(found)] * 3, strict=True):
            everybody.setdefault(place.decode(), {})[member.decode()] = json.loads(info)
        return everybody

    async def close(self) -> None:
        await self._link.close()
