"""Programs and other hostile text as HTML: Pygments escapes what it marks up, and what can't be seen is spelled out."""

import re

from markupsafe import Markup
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name

from codelm.records import Language

MOST_CHARACTERS = 4_000
"""Of one program or prompt; the end of a longer one is left out."""
LEXERS: dict[Language, str] = {
    "python": "python",
    "javascript": "javascript",
    "java": "java",
    "cpp": "cpp",
    "shell": "bash",
}
UNSEEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters, and those that make a text read in another order than it stands."""


def marked_up(text: str, language: Language) -> Markup:
    """A program, marked up; Pygments escapes its text."""
    shown = visible(text[:MOST_CHARACTERS])
    lexer = get_lexer_by_name(LEXERS[language], stripnl=False, ensurenl=False)
    marked = Markup(highlight(shown, lexer, HtmlFormatter(nowrap=True)))
    return marked + Markup("\n... and so on") if len(text) > MOST_CHARACTERS else marked


def visible(text: str) -> str:
    """Text that can be written as UTF-8 and seen: what can't be is spelled out, as \\x00."""
    spelled = text.encode("utf-8", "backslashreplace").decode()
    return UNSEEN.sub(lambda match: ascii(match[0])[1:-1], spelled)


def styles(name: str) -> str:
    """The rules of one of Pygments' styles for programs."""
    return "\n".join(
        line
        for line in HtmlFormatter(style=name).get_style_defs("pre.code").splitlines()
        if line.startswith("pre.code .")
    )
