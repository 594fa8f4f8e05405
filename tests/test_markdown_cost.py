"""Making HTML of an answer is cheap for any answer: no input makes the parser or the colouring slow."""

import gc
from time import process_time

import pytest

from chat.markdown import render

# Inputs that make careless parsers take quadratic time or worse.
SIZE = 16_000  # characters
SLOW = {
    "brackets": "[",
    "closing brackets": "]",
    "links that never end": "[a](",
    "images that never end": "![a](<b",
    "references": "[a][b]",
    "emphasis": "*a ",
    "both emphases": "**a_b ",
    "mixed emphasis": "a**b_c*",
    "backticks": "`",
    "growing backticks": "`a``b```c",
    "angles": "<",
    "comments": "<!--",
    "declarations": "<!A",
    "entities": "&#0",
    "quotes": "> a\n",
    "escapes": "\\",
    "pipes": "|a",
    "table rows": "|a|\n|-|\n",
    "blank lines": "\n",
    "spaces": " ",
    "tildes": "~~a",
    "definitions": "[a]: <b\n",
    "headings": "#\n",
    "links in text": "[a](http://b.c/?d) ",
    "addresses": "<a@b.",
}


def seconds(source: str) -> float:
    """The least of a few tries: what it costs without the noise of the machine."""
    best = 60.0
    gc.disable()
    try:
        for _ in range(4):
            start = process_time()
            render(source)
            best = min(best, process_time() - start)
    finally:
        gc.enable()
    return best


@pytest.mark.parametrize("name", SLOW)
def test_four_times_the_input_costs_about_four_times_as_much_and_not_sixteen(name):
    piece = SLOW[name]
    small, large = seconds((piece * SIZE)[: SIZE // 4]), seconds((piece * SIZE)[:SIZE])
    assert large < 8 * small + 0.1, f"{small:.3f} s became {large:.3f} s"


@pytest.mark.parametrize("name", SLOW)
def test_no_input_costs_far_more_than_ordinary_text_of_its_size(name):
    ordinary = ("An *ordinary* sentence with `code` and a [link](https://example.org). " * SIZE)[:SIZE]
    hard = (SLOW[name] * SIZE)[:SIZE]
    assert seconds(hard) < 40 * seconds(ordinary) + 0.1


@pytest.mark.parametrize("language", ["python", "javascript", "html", "bash", "json", "sql", "c", "markdown", "rust"])
@pytest.mark.parametrize("piece", ["'", '"', "/*", "\\", "(", "{", "<", "`", "a=", "$("])
def test_no_code_costs_far_more_to_colour_than_its_size(language, piece):
    code = (piece * 6000)[:6000]
    assert seconds(f"```{language}\n{code}\n```") < 2
