"""Seeded bugs: what somebody might get wrong one day, and the scenario that must see it."""

from __future__ import annotations

from dataclasses import dataclass

Change = tuple[str, str, str]  # file, what stands there exactly once, what stands there instead


@dataclass(frozen=True)
class Mutation:
    """One bug, and how to look for it: a scenario with its options."""

    name: str
    play: tuple[str, ...]
    changes: tuple[Change, ...]


def mutation(name: str, play: str, *changes: Change) -> Mutation:
    return Mutation(name, tuple(play.split()), changes)


KILL, FREEZE, TERM, REDIS = "kill --count 3", "freeze --count 2", "term --count 2", "redis --count 4"
CUTS, DOUBLE, STOPS = "cuts --count 6", "double --count 80", "stops --count 60"
FAULTS = "faults --short"

MUTATIONS = (
    # The fence, the lease and recovery
    mutation(
        "a checkpoint ignores the fence",
        FREEZE,
        (
            "chat/runner/rows.py",
            "AND fence IN (%s, %s) AND lease_owner = %s AND status = 'open'",
            "AND fence < 1000000 + %s + %s AND %s <> ''",
        ),
        ("chat/runner/flusher.py", "                run.lose()\n", "                run.draft.late()\n"),
    ),
    mutation(
        "recovery keeps the fence",
        KILL,
        ("chat/runner/claims.py", ".update(fence=row.fence + 1, lease", ".update(fence=row.fence, lease"),
        ("chat/runner/claims.py", "held_row(answer, row.fence + 1) if won", "held_row(answer, row.fence) if won"),
    ),
    mutation(
        "recovery does not close the log",
        FREEZE,
        (
            "chat/runner/recovery.py",
            "        await log().seal(answer, Position(fence, 0))\n        row = await",
            "        row = await",
        ),
    ),
    mutation(
        "recovery believes the row and drops the tail",
        KILL,
        ("chat/runner/recovery.py", "Heard.of(row, found))", "Heard.of(row, Slice()))"),
    ),
    mutation(
        "recovery begins again what was heard",
        KILL,
        (
            "chat/runner/recovery.py",
            "if restartable and not heard.anything(row.kept) and (job",
            "if restartable and (job",
        ),
    ),
    mutation(
        "two recoverers may have one answer",
        KILL,
        (
            "chat/runner/claims.py",
            "        .filter(held, pk=answer, fence=row.fence)\n        .update(fence=row.fence + 1,",
            "        .filter(pk=answer)\n        .update(fence=row.fence + 1,",
        ),
        (
            "chat/runner/claims.py",
            "    if not Message.objects.open().filter(pk=row.pk, fence=row.fence).update(**fresh):\n        return None\n",
            "    Message.objects.open().filter(pk=row.pk).update(**fresh)\n",
        ),
        (
            "chat/runner/recovery.py",
            "if steady():\n                await self.take_over",
            "if True:\n                await self.take_over",
        ),
    ),
    mutation(
        "a lease never runs out",
        KILL,
        (
            "chat/runner/claims.py",
            "filter(lease_until__lt=Now())",
            "filter(lease_until__lt=Now() - timedelta(hours=1))",
        ),
    ),
    mutation(
        "a lease runs out between two renewals",
        TERM,
        (
            "chat/models/messages.py",
            "Now() + timedelta(seconds=settings.CHAT_LEASE_SECONDS)",
            "Now() + timedelta(seconds=0.2)",
        ),
    ),
    mutation(
        "leases are not renewed",
        FREEZE,
        ("chat/runner/rows.py", "    mine.update(lease_until=lease_end())\n", ""),
    ),
    mutation(
        "recovery leaves the ledger open",
        KILL,
        (
            "chat/runner/recovery.py",
            "rows.Ending(last, final, final_id, call, usage)):",
            "rows.Ending(last, final, final_id, None, usage)):",
        ),
    ),
    # The log and its readers
    mutation(
        "a reader gets its last event again",
        CUTS,
        (
            "chat/events.py",
            "        return found if found.seq else START\n",
            "        return cls(found.fence, found.seq - 1) if found.seq > 1 else START\n",
        ),
    ),
    mutation(
        "a reader misses an event",
        CUTS,
        (
            "chat/replay/tape.py",
            "            if item.position <= position:",
            "            if item.position <= position.next():",
        ),
        ("chat/replay/tape.py", "                known = item.position\n", "                known = position\n"),
    ),
    mutation(
        "what Redis did not take counts as taken",
        REDIS,
        (
            "chat/runner/flusher.py",
            "                run.draft.late()\n",
            "                run.draft.acknowledge(parcels[run])\n",
        ),
        (
            "chat/replay/stored.py",
            "local follows = id ~= nil and tonumber(ARGV[n]) == fence and tonumber(ARGV[n + 1]) == seq + 1",
            "local follows = true",
        ),
    ),
    mutation(
        "text of the row has no position",
        REDIS,
        (
            "chat/answers/following.py",
            "        position = row.text_position if covers else None\n",
            "        position = None\n",
        ),
    ),
    mutation(
        "a replay of the row does not empty the bubble",
        REDIS,
        (
            "chat/answers/following.py",
            "            events.append((Started(str(row.pk), row.attempt, row.model), Position(row.fence, 0)))\n",
            "",
        ),
    ),
    mutation(
        "the end is shown before it is stored",
        STOPS,
        (
            "chat/runner/run.py",
            "        won = await self._end_row(final, usage)\n",
            "        self._write(final)\n        await self._writer.flush(self)\n"
            "        won = await self._end_row(final, usage)\n",
        ),
    ),
    # Questions
    mutation(
        "the key is not kept",
        DOUBLE,
        (
            "chat/answers/submitting.py",
            "                if submitted.key:\n                    Submission",
            "                if not submitted.path:\n                    Submission",
        ),
    ),
    mutation(
        "two submits at the same moment are not looked up again",
        DOUBLE,
        (
            "chat/answers/submitting.py",
            "            if last_try or not submitted.key:\n",
            "            if last_try or submitted:\n",
        ),
    ),
    # The provider
    mutation(
        "the end of a stream counts as success",
        FAULTS,
        (
            "chat/providers/openai.py",
            "    if done is None:\n        raise truncated()\n",
            '    if done is None:\n        yield Done("stop")\n',
        ),
    ),
    mutation(
        "a call is repeated though words were heard",
        FAULTS,
        ("chat/runner/talk.py", "if not error.retry or self.heard or wait", "if wait"),
    ),
    mutation(
        "no deadline ends a silence",
        FAULTS,
        (
            "chat/runner/run.py",
            "        elif overdue:\n            self.fail",
            "        elif overdue and self.lost:\n            self.fail",
        ),
    ),
    mutation(
        "a stop leaves the provider talking",
        STOPS,
        (
            "chat/runner/run.py",
            "            return await self._talk.go()\n",
            "            return await asyncio.shield(asyncio.ensure_future(self._talk.go()))\n",
        ),
    ),
    # Leaving
    mutation(
        "a process that leaves gives its answers no time",
        TERM,
        ("chat/runner/__init__.py", "_runs.settle(settings.CHAT_DRAIN_SECONDS)", "_runs.settle(0)"),
    ),
    mutation(
        "readers are not told to come back",
        TERM,
        (
            "chat/answers/following.py",
            "                yield sse.frame(Reconnect())\n                return\n",
            "                return\n",
        ),
    ),
)
