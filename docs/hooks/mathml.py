"""Equations, `$...$` and `$$...$$`, become MathML when the site is built: browsers show it without a script."""

import html
import logging
import re
from typing import Any

from math_core import LatexError, LatexToMathML

logger = logging.getLogger("mkdocs.hooks.mathml")
EQUATION = re.compile(r'<(span|div) class="arithmatex">\s*\\[(\[](.*?)\\[)\]]\s*</\1>', re.DOTALL)
converter = LatexToMathML(fancy_error=False)


def on_page_content(content: str, page: Any, **_: Any) -> str:
    """Convert the equations of a page; one that cannot be is shown as it is, with a warning that --strict refuses."""

    def converted(found: re.Match[str]) -> str:
        display = found[1] == "div"
        try:
            mathml = converter.convert_with_local_state(html.unescape(found[2]).strip(), displaystyle=display)
        except LatexError as error:
            logger.warning("%s: %s", page.file.src_uri, error)
            return found[0]
        return f'<div class="equation">{mathml}</div>' if display else mathml

    return EQUATION.sub(converted, content)
