"""What may safely be written to a terminal."""

from __future__ import annotations

# Control characters a model emits would be carried out by the terminal (move the cursor, retitle the window, write to
# the clipboard). They are shown as their pictures instead; newline and tab are left alone.
_PICTURES = {code: 0x2400 + code for code in range(0x20) if code not in (0x09, 0x0A)}
_PICTURES[0x7F] = 0x2421
_C1 = dict.fromkeys(range(0x80, 0xA0), 0xFFFD)
# Bidirectional overrides reorder text that was already shown.
_BIDI = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)], 0xFFFD)
_VISIBLE = {**_PICTURES, **_C1, **_BIDI}


def visible(text: str) -> str:
    """`text` with every character that a terminal would act on replaced by one that it shows."""
    return text.translate(_VISIBLE)
