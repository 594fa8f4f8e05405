"""The demo model: answers without any provider, the same for the same question, so that a newcomer can try everything.

The model's name chooses its pace: `demo` types like a person reads, `demo-fast` like a good provider, `demo-slow` slowly
enough to stop it, reload the page or pull the plug in the middle.
"""

import asyncio
import re
from collections.abc import AsyncIterator

from chat.events import Done, Event, Reasoning, Token, Usage
from chat.providers.base import Model, Prompt, Provider

# Seconds before the first token, then tokens a second.
PACES = {"demo": (0.3, 40.0), "demo-fast": (0.1, 150.0), "demo-slow": (0.8, 8.0)}
CONTEXT = 8192

THOUGHT = "The demo model does not think. A model that does shows its thoughts here, folded away."

INTRODUCTION = """\
This is Parley's **demo model**. No AI provider is connected, so this server answers by itself: always in these words, and \
only to show you how the page works.

You wrote:

> {question}

"""

SHOW = """\
### What an answer can contain

1. Text that appears as it is written, and stays if you reload now.
2. Code, with its language and a button to copy it:

```python
async def greet(name: str) -> str:
    # Highlighted by the server when the answer is complete.
    return f"Hello, {name}!"
```

3. Tables:

| model | first word after | tokens a second |
|---|--:|--:|
| `demo` | 0.3 s | 40 |
| `demo-fast` | 0.1 s | 150 |
| `demo-slow` | 0.8 s | 8 |

"""

CONNECT = """\
### Connect a real provider

Stop the server, set two variables, and start it again:

```sh
export OPENAI_API_KEY=your-key
export OPENAI_BASE_URL=https://api.openai.com/v1
script/server
```

Any server that speaks the same protocol will do. Ollama, for example, needs no key and listens on \
`http://localhost:11434/v1`; its models then appear here by themselves.
"""

LONG = """\
### Meanwhile

- Press **Stop**: the request to the provider ends at once, and the page says what it cost.
- Reload the page, or open it on your phone: the answer goes on where it is.
- Open a second tab: both show the same words.

"""


def compose(question: str) -> str:
    """The whole answer to a question: the same question gets the same answer."""
    quoted = " ".join(question.split())
    quoted = quoted if len(quoted) <= 240 else quoted[:239] + "…"
    return INTRODUCTION.format(question=quoted) + SHOW + LONG + CONNECT


def words(text: str) -> list[str]:
    """The text in pieces of about a token, none lost."""
    return re.findall(r"\s*\S+|\s+\Z", text)


class DemoProvider(Provider):
    name = "demo"

    async def stream(self, prompt: Prompt) -> AsyncIterator[Event]:
        pause, rate = PACES[prompt.model]
        question = prompt.turns[-1].text
        await asyncio.sleep(pause)
        for word in words(THOUGHT):
            yield Reasoning(word)
        await asyncio.sleep(pause)
        tokens = words(compose(question))
        clock = asyncio.get_running_loop().time
        start = clock()
        for count, token in enumerate(tokens):
            # Paced by the clock and not by single sleeps, whose lateness would add up.
            if (ahead := start + count / rate - clock()) > 0:
                await asyncio.sleep(ahead)
            yield Token(token)
        yield Done("stop")
        yield Usage(sum(turn.tokens for turn in prompt.turns), len(tokens), estimated=True)

    async def models(self) -> list[Model]:
        return [Model(name, CONTEXT, self.name, demo=True) for name in PACES]
