"""Text for terminals."""

from __future__ import annotations


def escape(text: str) -> str:
    """Return text with characters that would act on a terminal or change the order of letters as escapes: `\\x1b`, `\\u202e`."""
    if text.isprintable() or all(character.isprintable() or character in "\n\t" for character in text):
        return text
    return "".join(character if character.isprintable() or character in "\n\t" else character.encode("unicode_escape").decode()
                   for character in text)
