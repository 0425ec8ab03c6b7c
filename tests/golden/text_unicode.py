"""Writes engine/text/unicode_tables.cpp: the Unicode classes that Hugging Face `tokenizers` uses, read out of the wheel itself.

    python tests/golden/text_unicode.py engine/text/unicode_tables.cpp      # needs `tokenizers` and libutf8proc.so

Its regex engine (Oniguruma) carries newer tables than PCRE2 does, its NFC older ones than utf8proc, so the engine takes
neither library's word for what a letter or a mark is. Run again when a new `tokenizers` brings a new Unicode version.
"""

import ctypes
import ctypes.util
import sys

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

CATEGORIES = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co".split()
POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
MARKER = "\uffff"  # a noncharacter: in no class


def members(pattern):
    """The code points that `pattern` matches, found by replacing them."""
    replace = normalizers.Replace(Regex(pattern), MARKER)
    found = []
    for start in range(0, len(POINTS), 4096):
        chunk = POINTS[start:start + 4096]
        text = replace.normalize_str("".join(map(chr, chunk)))
        assert len(text) == len(chunk)
        found += [c for c, t in zip(chunk, text) if t == MARKER and c != 0xFFFF]
    return found


def numeric():
    """Rust's char::is_numeric, which the Digits pre-tokenizer asks: a digit is split from the letter after it."""
    digits = pre_tokenizers.Digits(individual_digits=True)
    return [c for c in POINTS if len(digits.pre_tokenize_str("a" + chr(c))) == 2]


def word():
    """What counts as a word character beside a single_word added token (\\w of Rust's regex crate)."""
    tokenizer = Tokenizer(models.BPE(vocab={"X": 0, "Y": 1}, merges=[]))
    tokenizer.add_tokens([AddedToken("XY", single_word=True)])
    found = []
    for start in range(0, len(POINTS), 65536):
        chunk = POINTS[start:start + 65536]
        for c, encoding in zip(chunk, tokenizer.encode_batch(["XY" + chr(c) for c in chunk])):
            if 2 not in encoding.ids:
                found.append(c)
    return found


def space():
    """What an added token with rstrip swallows (\\s of Rust's regex crate)."""
    tokenizer = Tokenizer(models.BPE(vocab={"X": 0}, merges=[]))
    tokenizer.add_tokens([AddedToken("Y", rstrip=True)])
    return [c for c in POINTS if tokenizer.encode("Y" + chr(c)).offsets[0][1] == 2]


def late_marks():
    """Code points that utf8proc reorders or lets pass in composition, but the wheel's older NFC takes for plain starters."""
    proc = ctypes.CDLL(ctypes.util.find_library("utf8proc"))
    proc.utf8proc_NFC.restype = proc.utf8proc_NFD.restype = ctypes.c_void_p
    libc = ctypes.CDLL(None)
    nfc = normalizers.NFC()

    def ours(function, text):
        pointer = function(text.encode())
        result = ctypes.string_at(pointer).decode()
        libc.free(ctypes.c_void_p(pointer))
        return result

    found = set()
    for c in POINTS[1:]:
        text = "a" + chr(c) + "\u0323\u0301"
        if ours(proc.utf8proc_NFC, text) != nfc.normalize_str(text):
            found.add(c)
        parts = ours(proc.utf8proc_NFD, chr(c))
        if ours(proc.utf8proc_NFC, parts) != nfc.normalize_str(parts):
            found.add(ord(parts[-1]))
    return sorted(found)


def removed_by(normalizer):
    """What a normalizer takes out of a text, but for U+0000 and U+FFFD."""
    return [c for c in POINTS if c not in (0, 0xFFFD) and normalizer.normalize_str("a" + chr(c)) == "a"]


def bert(**on):
    return normalizers.BertNormalizer(**{**dict(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False), **on})


def punctuation():
    cut = pre_tokenizers.Punctuation()
    found = [c for c in POINTS if len(cut.pre_tokenize_str("a" + chr(c))) == 2]
    bert_cut = pre_tokenizers.BertPreTokenizer()
    assert found == [c for c in POINTS if len(bert_cut.pre_tokenize_str("a" + chr(c))) == 2]
    return found


def late_compatible():
    """Code points that utf8proc's NFKD takes apart, but the wheel's older table does not."""
    proc = ctypes.CDLL(ctypes.util.find_library("utf8proc"))
    proc.utf8proc_NFKD.restype = ctypes.c_void_p
    libc = ctypes.CDLL(None)
    found = []
    for c in POINTS[1:]:
        pointer = proc.utf8proc_NFKD(chr(c).encode())
        ours = ctypes.string_at(pointer).decode()
        libc.free(ctypes.c_void_p(pointer))
        theirs = normalizers.NFKD().normalize_str(chr(c))
        if ours != theirs:
            assert theirs == chr(c), hex(c)
            found.append(c)
    return found


def lower():
    """Single lower-case characters; U+0130 has two and is not among them."""
    pairs = [(c, normalizers.Lowercase().normalize_str(chr(c))) for c in POINTS]
    assert [c for c, t in pairs if len(t) != 1] == [0x130]
    return [(c, ord(t)) for c, t in pairs if len(t) == 1 and ord(t) != c]


def script_runs():
    """(first code point, number of a script) wherever the script changes; 0 is any script."""
    cut = pre_tokenizers.UnicodeScripts()
    any_script = [len(cut.pre_tokenize_str("a" + chr(c))) == 1 and len(cut.pre_tokenize_str("." + chr(c))) == 1 for c in POINTS]
    runs, examples = [], []
    for c, free in zip(POINTS, any_script):
        if free:
            number = 0
        elif runs and runs[-1][1] and len(cut.pre_tokenize_str(chr(examples[runs[-1][1] - 1]) + chr(c))) == 1:
            number = runs[-1][1]
        else:
            number = next((i + 1 for i, e in enumerate(examples) if len(cut.pre_tokenize_str(chr(e) + chr(c))) == 1), None)
            if number is None:
                examples.append(c)
                number = len(examples)
        if not runs or runs[-1][1] != number:
            runs.append((c, number))
    assert len(examples) < 256
    return runs


def ranges(points):
    out = []
    for c in points:
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def category_runs():
    """(first code point, category) wherever the category changes, 'Cn' for what is in none."""
    of = {}
    for name in CATEGORIES:
        for c in members(r"\p{%s}" % name):
            assert c not in of, hex(c)
            of[c] = name
    runs = []
    for c in range(0x110000):
        name = "Cs" if 0xD800 <= c < 0xE000 else of.get(c, "Cn")
        if not runs or runs[-1][1] != name:
            runs.append((c, name))
    return runs


def rows(items, per_line):
    for start in range(0, len(items), per_line):
        yield "    " + " ".join(items[start:start + per_line])


def main(path):
    space_regex, space_strip = members(r"\s"), space()
    assert space_regex == space_strip, "the two kinds of white space differ: give each its own table"
    lines = [
        f"// Made by tests/golden/text_unicode.py from tokenizers {tokenizers.__version__}; do not edit. A table: longer than sources may be.",
        '#include "engine/text/unicode.h"', "", "namespace ft::unicode {", "", "// clang-format off",
        "const CategoryRun kCategoryRuns[] = {",
    ]
    runs = category_runs()
    lines += rows(["{0x%x,%s}," % (c, "Category::" + n) for c, n in runs], 5)
    lines += ["};", "const size_t kNumCategoryRuns = std::size(kCategoryRuns);"]
    for name, points in [("White", space_regex), ("Word", word()), ("Numeric", numeric()), ("LateMark", late_marks()),
                         ("LateCompatible", late_compatible()), ("CombiningMark", removed_by(normalizers.StripAccents())),
                         ("BertMark", removed_by(bert(strip_accents=True))),
                         ("BertControl", removed_by(bert(clean_text=True))), ("Punctuation", punctuation())]:
        lines += ["", f"const Range k{name}Ranges[] = {{"]
        lines += rows(["{0x%x,0x%x}," % (a, b) for a, b in ranges(points)], 7)
        lines += ["};", f"const size_t kNum{name}Ranges = std::size(k{name}Ranges);"]
        print(name, len(points), "code points", file=sys.stderr)
    for name, kind, pairs in [("Lower", "Pair", lower()), ("Script", "ScriptRun", script_runs())]:
        table = f"k{name}{'Pairs' if kind == 'Pair' else 'Runs'}"
        lines += ["", f"const {kind} {table}[] = {{"]
        lines += rows(["{0x%x,0x%x}," % pair for pair in pairs], 7)
        lines += ["};", f"const size_t kNum{table[1:]} = std::size({table});"]
        print(name, len(pairs), file=sys.stderr)
    lines += ["// clang-format on", "", "}  // namespace ft::unicode", ""]
    open(path, "w").write("\n".join(lines))


if __name__ == "__main__":
    main(sys.argv[1])
