"""Writes engine/text/unicode_properties.cpp: what \\p{Han}, \\p{Alphabetic} and \\w are to the regexes of Hugging Face `tokenizers`.

    python tests/golden/text_properties.py engine/text/unicode_properties.cpp

Needs `tokenizers` and `fonttools`, which knows the scripts' names and codes. Run again when a new `tokenizers` brings a new Unicode version.
"""

import sys

import tokenizers
from fontTools.unicodedata import Scripts
from text_unicode import members, ranges, rows
from tokenizers import Regex

OTHERS = ["Alphabetic", "Uppercase", "Lowercase", "Alnum", "Word", "White_Space", "Ideographic", "Emoji", "Extended_Pictographic"]


def main(path):
    scripts = sorted((name.replace(" ", "_"), code) for code, name in Scripts.NAMES.items())
    names, points = [], []
    for names_of in [*scripts, *((name,) for name in OTHERS)]:
        try:
            Regex(r"\p{%s}" % names_of[0])
        except Exception:
            continue  # younger than the tables of this version
        first = len(points)
        points += ranges(members(r"\w" if names_of[0] == "Word" else r"\p{%s}" % names_of[0]))
        for name in names_of:
            names.append((name.lower().replace("_", ""), first, len(points)))
    lines = [
        f"// Made by tests/golden/text_properties.py from tokenizers {tokenizers.__version__}; do not edit. A table: longer than sources may be.",
        '#include "engine/text/unicode.h"', "", "namespace ft::unicode {", "", "// clang-format off", "const NamedRanges kProperties[] = {"]
    lines += rows(['{"%s",%d,%d},' % entry for entry in sorted(set(names))], 4)
    lines += ["};", "const size_t kNumProperties = std::size(kProperties);", "", "const Range kPropertyRanges[] = {"]
    lines += rows(["{0x%x,0x%x}," % tuple(pair) for pair in points], 7)
    lines += ["};", "// clang-format on", "", "}  // namespace ft::unicode", ""]
    open(path, "w").write("\n".join(lines))


main(sys.argv[1])
