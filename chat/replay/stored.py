"""How events are stored in Redis: one stream for each answer, whose entry ids are the positions.

An entry has one field. `event` holds JSON: name, when it was written, data. `seal` holds the position before the seal.
`forget` is a seal that begins the stream anew.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

from chat.events import Position, Started, dump, load
from chat.redis_client import Script, Word
from chat.replay.base import Entry
from chat.replay.tape import Item, Mark

logger = logging.getLogger(__name__)

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

_NEWEST = """
local function newest(key)
    local found = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)
    if #found == 0 then return nil, 0, 0 end
    local fence, seq = string.match(found[1][1], '(%d+)-(%d+)')
    return found[1][1], tonumber(fence), tonumber(seq)
end
"""

ADDED, REFUSED, LOST = 0, 1, 2

# KEYS: the stream. ARGV: how many entries it keeps, its life in ms, then fence, seq, whether it is `started`, and value
# of each entry. Looks at all of them before it writes the first.
APPEND = Script(
    _NEWEST
    + """
local key, first = KEYS[1], 3
local id, fence, seq = newest(key)
local function id_at(n) return ARGV[n] .. '-' .. ARGV[n + 1] end
local function is_newer(n)
    local f, s = tonumber(ARGV[n]), tonumber(ARGV[n + 1])
    return id == nil or f > fence or (f == fence and s > seq)
end

while first <= #ARGV and not is_newer(first) do  -- there already, if this is a repetition
    local held = redis.call('XRANGE', key, id_at(first), id_at(first))
    if #held == 0 or held[1][2][1] ~= 'event' or held[1][2][2] ~= ARGV[first + 3] then return 1 end
    first = first + 4
end

for n = first, #ARGV, 4 do
    local follows = id ~= nil and tonumber(ARGV[n]) == fence and tonumber(ARGV[n + 1]) == seq + 1
    if not follows and not (ARGV[n + 2] == '1' and is_newer(n)) then return 2 end
    id, fence, seq = id_at(n), tonumber(ARGV[n]), tonumber(ARGV[n + 1])
end

for n = first, #ARGV, 4 do
    redis.call('XADD', key, 'MAXLEN', ARGV[1], id_at(n), 'event', ARGV[n + 3])
end
if first <= #ARGV then redis.call('PEXPIRE', key, ARGV[2]) end
return 0
"""
)

# KEYS: the stream. ARGV: fence, seq, whether to forget, its life in ms.
SEAL = Script(
    _NEWEST
    + """
local key, at_fence, at_seq = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])
local id, fence, seq = newest(key)
local past = id ~= nil and (fence > at_fence or (fence == at_fence and seq > at_seq))
local there = id ~= nil and fence == at_fence and seq == at_seq
if past or (there and ARGV[3] == '0') then return 0 end
if ARGV[3] == '1' then
    redis.call('DEL', key)
    redis.call('XADD', key, ARGV[1] .. '-' .. ARGV[2], 'forget', '')
else
    redis.call('XADD', key, ARGV[1] .. '-' .. ARGV[2], 'seal', id or '')
end
redis.call('PEXPIRE', key, ARGV[4])
return 1
"""
)


def words_of(entry: Entry) -> tuple[Word, ...]:
    """An entry as arguments of APPEND."""
    value = _encode([entry.event.name, entry.at, dump(entry.event)])
    started = 1 if isinstance(entry.event, Started) else 0
    # A half of a character that slipped through must not keep the entries of all the other answers from being sent.
    return (entry.position.fence, entry.position.seq, started, value.encode(errors="surrogatepass"))


def position_of(stream_id: bytes) -> Position:
    fence, _, seq = stream_id.partition(b"-")
    return Position(int(fence), int(seq))


def items_of(answer: UUID, found: Sequence[Any]) -> Iterator[Item]:
    """Entries of a stream, as XRANGE and XREAD reply them. What cannot be understood is a position without an event."""
    for stream_id, (field, value, *_) in found:
        position = position_of(stream_id)
        if field == b"event":
            try:
                name, at, data = json.loads(value)
                yield Entry(answer, position, load(name, data), at)
            except (ValueError, TypeError):  # of a newer version, while servers are being replaced one by one
                logger.warning("an event of answer %s is unknown here: %.80r", answer, value)
                yield Mark(position, Position(position.fence, position.seq - 1))
        else:
            yield Mark(position, position_of(value) if value else None, forget=field == b"forget")
