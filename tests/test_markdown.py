"""A finished answer as HTML: the structure that the page's style, its scripts and its live renderer count on."""

import re

import pytest

from chat.markdown import MAX_HIGHLIGHTED, render

FIGURES = re.compile(
    r'<figure class="code" data-language="([^"]*)"><pre tabindex="0"><code( class="language-[^"]+")?>(.*?)'
    r"</code></pre></figure>",
    re.DOTALL,
)


def text_of(html: str) -> str:
    """What a reader sees of some HTML."""
    plain = re.sub(r"<[^>]*>", "", html)
    for name, letter in (("lt", "<"), ("gt", ">"), ("quot", '"'), ("#x27", "'"), ("amp", "&")):
        plain = plain.replace(f"&{name};", letter)
    return plain


@pytest.mark.parametrize(("level", "shown"), [(1, 3), (2, 4), (3, 5), (4, 6), (5, 6), (6, 6)])
def test_headings_stand_below_those_of_the_page(level, shown):
    assert render("#" * level + " Title *one*") == f"<h{shown}>Title <em>one</em></h{shown}>\n"


def test_underlined_headings_too():
    assert render("A\n=\n\nB\n-") == "<h3>A</h3>\n<h4>B</h4>\n"


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("a **b** _c_ ~~d~~ `e`", "<p>a <strong>b</strong> <em>c</em> <del>d</del> <code>e</code></p>\n"),
        ("a\nb\\\nc", "<p>a\nb<br>\nc</p>\n"),
        ("> a", "<blockquote>\n<p>a</p>\n</blockquote>\n"),
        ("- a\n- b", "<ul>\n<li>a</li>\n<li>b</li>\n</ul>\n"),
        ("3. a\n4. b", '<ol start="3">\n<li>a</li>\n<li>b</li>\n</ol>\n'),
        ("a\n\n---\n\nb", "<p>a</p>\n<hr>\n<p>b</p>\n"),
        ("", ""),
        ("   \n\n ", ""),
    ],
)
def test_the_usual_marks(source, wanted):
    assert render(source) == wanted


def test_a_link_opens_elsewhere_and_tells_nothing_of_where_from():
    html = render('[site](https://example.org/a?b=c&d "Title") <https://example.org> <a@example.org>')
    links = re.findall(r"<a [^>]*>", html)
    assert len(links) == 3
    for link in links:
        assert 'target="_blank"' in link
        assert 'rel="noopener noreferrer nofollow"' in link
    assert 'href="https://example.org/a?b=c&amp;d"' in links[0]
    assert 'title="Title"' in links[0]
    assert 'href="mailto:a@example.org"' in links[2]


def test_an_image_is_a_link_and_nothing_is_loaded():
    html = render("![a <cat>](https://example.org/cat.png) ![](https://example.org/x.png)")
    assert "<img" not in html
    links = re.findall(r"<a ([^>]*)>([^<]*)</a>", html)
    assert [text_of(label) for _, label in links] == ["🖼 a <cat>", "🖼 https://example.org/x.png"]
    for attributes, _ in links:
        assert 'class="image-link"' in attributes
        assert 'target="_blank"' in attributes
        assert 'rel="noopener noreferrer nofollow"' in attributes


def test_a_table_can_be_scrolled_and_its_cells_are_aligned_by_class():
    html = render("| a | b | c | d |\n|---|:--|--:|:-:|\n| 1 | 2 | 3 | **4** |")
    assert html.startswith('<div class="table" tabindex="0" role="region" aria-label="Table"><table>\n<thead>')
    assert html.endswith("</tbody>\n</table></div>\n")
    assert re.findall(r"<th .*?>", html) == [f'<th class="ta-{way}">' for way in ("left", "right", "center")]
    assert '<td class="ta-right">3</td>' in html
    assert '<td class="ta-center"><strong>4</strong></td>' in html
    assert "style" not in html


PYTHON = 'def f(a: int) -> str:\n    """Say <b>."""\n    return f"{a}" & "é"  # why\n'


def test_code_is_a_figure_with_its_language_and_colours_by_class():
    [(language, kind, body)] = FIGURES.findall(render(f"```python title=x\n{PYTHON}```"))
    assert (language, kind) == ("python", ' class="language-python"')
    assert '<span class="k">def</span>' in body
    assert '<span class="c1"># why</span>' in body
    assert text_of(body) == PYTHON
    assert "style" not in body


@pytest.mark.parametrize("language", ["nonesuch", "py<thon", "..", "<script>", '"onload="x', "é", "x" * 500, "c++"])
def test_code_of_any_language_is_shown_whole(language):
    [(_, _, body)] = FIGURES.findall(render(f"```{language}\na < b && c\n```"))
    assert text_of(body) == "a < b && c\n"


def test_an_unknown_language_stays_plain_but_named():
    assert FIGURES.findall(render("```nonesuch\nx = 1\n```")) == [("nonesuch", ' class="language-nonesuch"', "x = 1\n")]


@pytest.mark.parametrize("source", ["```\nx = 1\n```", "    x = 1\n", "~~~\nx = 1\n~~~"])
def test_code_without_a_language_has_none(source):
    assert FIGURES.findall(render(source)) == [("", "", "x = 1\n")]


def test_a_code_block_that_was_cut_off_is_still_one():
    [(language, _, body)] = FIGURES.findall(render("Look:\n\n```python\nprint(1)"))
    assert (language, text_of(body).rstrip("\n")) == ("python", "print(1)")


@pytest.mark.parametrize("code", ["\n\n  a\n\n", "\ttab\n", "a\n\n\nb\n", " \n", "&lt; &amp;\n", "</code></pre>\n"])
def test_code_keeps_every_space_and_line(code):
    for language in ("", "python", "html", "json", "bash"):
        [(_, _, body)] = FIGURES.findall(render(f"```{language}\n{code}```"))
        assert text_of(body) == code


def test_very_long_code_is_shown_without_colours():
    line = "x = 1\n"
    for count, coloured in ((10, True), (MAX_HIGHLIGHTED // len(line) + 1, False)):
        [(_, _, body)] = FIGURES.findall(render(f"```python\n{line * count}```"))
        assert ("<span" in body) is coloured
        assert text_of(body) == line * count


def test_marks_inside_code_and_html_are_text():
    html = render("`**a** <b>` <b>*c*</b> &amp; &copy;")
    assert html == ("<p><code>**a** &lt;b&gt;</code> &lt;b&gt;<em>c</em>&lt;/b&gt; &amp; ©</p>\n")
