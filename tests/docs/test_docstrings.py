"""Docstrings become Markdown as the site is built."""

import pytest

from tests.support.pages import hook

pytest.importorskip("griffe")


docstrings = hook("docstrings")


def markdown(text, **known):
    return docstrings.to_markdown(text, known.get)


def test_a_role_is_a_link_where_its_object_is_known_and_code_where_not():
    text = "See :class:`Known`, :meth:`~Known` and :func:`unknown`; ``:class:`Known` `` is code."
    link = '<autoref identifier="a.Known" optional><code>Known</code></autoref>'
    assert markdown(text, Known="a.Known") == f"See {link}, {link} and `unknown`; ``:class:`Known` `` is code."


def test_a_tilde_shows_the_last_name_only():
    assert "<code>C</code>" in docstrings.to_markdown(":class:`~a.b.C`", lambda name: {"a.b.C": "a.b.C"}.get(name))


def test_formulas_stand_between_brackets_and_lines_are_aligned():
    assert markdown(r".. math:: x^2 + 1") == r"\[ x^2 + 1 \]"
    text = ".. math::\n    a &= b \\\\\n    c &= d\n\nIt holds for :math:`a`."
    assert markdown(text) == "\\[ \\begin{align*} a &= b \\\\ c &= d \\end{align*} \\]\n\nIt holds for \\(a\\)."


def test_a_simple_table_is_markdown_and_long_cells_go_on():
    rule = "===== ============ ======"
    rows = ["a|b   read: a long ``[B]``", "      story", "c     written      float"]
    text = "\n".join([rule, "key   what         shape", rule, *rows, rule])
    assert markdown(text).splitlines() == [
        "| key | what | shape |",
        "| --- | --- | --- |",
        r"| a\|b | read: a long story | ``[B]`` |",
        "| c | written | float |",
    ]


def test_keys_and_shapes_of_a_table_are_code_and_stars_are_stars():
    assert (
        markdown('| "deter" | [*B, *latent.shape] | a * b | |') == r'| `"deter"` | `[*B, *latent.shape]` | a \* b |  |'
    )


def test_an_example_is_code_and_left_as_it_is():
    text = "A thing.\n\nExample:\n    >>> f(':class:`X`')\n    [1.0, 1.0]\n"
    assert markdown(text, X="a.X") == text.replace("Example:", "Examples:")
    assert markdown("A thing.\n\n>>> f()\n[1, 2]\n") == "A thing.\n\nExamples:\n    >>> f()\n    [1, 2]\n"


def test_code_is_shown_without_docstrings():
    source = 'def f(x):\n    """Says.\n\n    More.\n    """\n    return x\n'
    assert docstrings.without_docstrings(source) == "def f(x):\n    return x"
    assert docstrings.without_docstrings('    def f(self):\n        """Only words."""\n') == "def f(self):\n    ..."


def test_words_of_a_formula_are_words():
    formulas = hook("formulas")
    assert (
        formulas.upright(r"KL(q \| p_{min}) \max x \text{if} z e")
        == r"\text{KL}(q \| p_{\text{min}}) \max x \text{if} z e"
    )
    assert "<mtext>KL</mtext>" in formulas.mathml("KL(q)", block=False)


def test_a_formula_that_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="nosuchcommand"):
        hook("formulas").mathml(r"\nosuchcommand x", block=True)
