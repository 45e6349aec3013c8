"""MkDocs hook: formulas become MathML while the site is built, which browsers draw by themselves, without a network."""

import html
import re

from latex2mathml.converter import convert

MARKED = re.compile(r'<(?P<tag>div|span) class="arithmatex">\\[\[(](?P<tex>.*?)\\[\])]</(?P=tag)>', re.S)
COMMAND = re.compile(r"(\\(?:begin|end|text|mathrm|operatorname)\{[^}]*\}|\\[A-Za-z]+|\\.)")


def on_page_content(content: str, **_: object) -> str:
    """Formulas that arithmatex has marked."""
    return MARKED.sub(lambda match: mathml(html.unescape(match["tex"]), block=match["tag"] == "div"), content)


def mathml(tex: str, *, block: bool) -> str:
    """One formula.

    Args:
        tex: LaTeX.
        block: on a line of its own.

    Raises:
        ValueError: if it holds what the converter does not know: it would stand raw on the page.
    """
    drawn = convert(upright(tex.strip()), display="block" if block else "inline")
    unknown = re.search(r"\\[A-Za-z]+|<m[io]>&</m", drawn)
    if unknown:
        raise ValueError(f"{unknown[0]} in the formula {tex!r} is not known to latex2mathml; write it otherwise.")
    return drawn


def upright(tex: str) -> str:
    """Words (``KL``, ``softmax``, ``skip``) as words: letters side by side would be drawn as a product."""
    parts = COMMAND.split(tex)
    parts[::2] = [re.sub(r"[A-Za-z]{2,}", r"\\text{\g<0>}", part) for part in parts[::2]]
    return "".join(parts)
