import time
from concurrent.futures import ThreadPoolExecutor
from bench.fake_provider import FakeProvider
from bench.faults import CATALOGUE
from bench.script import Script
from tests.parley import shown

def test_explore(serve_all):
    with FakeProvider() as p:
        names = {f: f"fake?tokens=12&at=5&rate=200&retry_after=0.8&seed={i}&fault={f}" for i, f in enumerate(CATALOGUE)}
        p.state.models = list(names.values())
        s = serve_all(OPENAI_BASE_URL=p.url, CHAT_FIRST_TOKEN_SECONDS="1", CHAT_GAP_SECONDS="1", CHAT_ANSWER_SECONDS="6")
        a = s.client("alice")
        def run(f):
            t = time.monotonic()
            asked = a.ask("hi " + f, names[f])
            frames = a.read_to_end(asked["answer"])
            return asked, frames, time.monotonic() - t
        with ThreadPoolExecutor(6) as pool:
            for f, (asked, frames, took) in zip(names, pool.map(run, names), strict=True):
                finals = [x for x in frames if x.name in ("done", "error")]
                e = finals[0].data
                ending = e.get("reason") or "error:" + e["code"]
                sc = Script.of(names[f])
                text = shown(frames)
                row = s.ended(asked["answer"])
                ok = CATALOGUE[f].accepts(sc, ending.split(":")[0], text)
                calls = s.calls(asked["answer"])
                seen = [c for c in p.calls if c.model == names[f]]
                print(f"{f:28} {ending:20} {'' if ok else 'NOT-OK'} {len(finals)} text={'whole' if text == sc.whole else 'part' if text == sc.part else len(text)} rows={len(calls)} {[c['outcome'] for c in calls]} calls={len(seen)} {[c.state for c in seen]} {took:.2f} same={row['text']==text} {row['status']} est={row['estimated']} u={row['prompt_tokens']},{row['completion_tokens']}")
        print(s.log.read_text()[-3000:])
