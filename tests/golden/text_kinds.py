"""Small tokenizers of every kind that tokenizer.json knows, and what Hugging Face `tokenizers` makes of awkward texts.

    python tests/golden/text_kinds.py write tests/golden/text_kinds
    python tests/golden/text_kinds.py fuzz FOLDER SEED COUNT      # the same tokenizers with COUNT fresh random texts each
    python tests/golden/text_kinds.py sweep FOLDER                # every character up to U+1FFFF, alone and with marks
    python tests/golden/text_kinds.py fuzz-file FOLDER SEED COUNT TOKENIZER.json[.gz] …   # others' files

Each folder gets tokenizer.json and gold.jsonl; test_text reads them, from the folder FTENGINE_TEXT_FUZZ names for a fuzz. Needs
`tokenizers`. A row has text, ids (special tokens added), plain (not), offsets of plain in characters, decode and skip.
A row whose ids hold an added token that the normalizer changes has no decode: 0.22 gives its content, 0.23 what the normalizer makes of it.
"""

import base64
import gzip
import json
import os
import random
import struct
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

SYLLABLES = ["ba", "ke", "ri", "so", "tun", "mel", "über", "né", "ça", "да", "не", "ко", "το", "λό", "水", "山", "です"]
ALPHABET = list("ab eéE'st1½٣.,!?\n\r\t (\u00a0\u2003▁") + [
    "\u0301", "\u0323", "\u0308", "水", "で", "か\u3099", "カ", "да", "\u1100", "\u1161", "\u11a8", "ǆ", "ǅ", "ʰ", "٠", "Ⅷ", "²", "_",
    "—", "€", "👍", "\u200d", "\u0e33", "\u0dd9", "\u0dcf", "\u09c7", "\u09be", "\U0001e130", "\u1715", "\u07fd", "\u0345", "<|end|>",
    "<mask>", "<strip>", "word", "Norm\u00e9", "Ğ", "İ", "ẞ", "  ", "'ll", "'RE", " ba", " ke", "meltun", "né", "ﬁ", "①", "ｶﾞ", "ﾞ", "한국", "각",
    "\u0000", "\u0007", "\u200b", "\ufeff", "\ufffd", "㋿", "Ａｂ", "don't", " do not", " n't", "##", "</w>", "<0x0A>", "\u1ebf", "\u212b",
    "👩‍👩‍👧", "🏳️‍🌈", "\r\n", "中文", "ไทย", "अनि", "\u0958"]


def corpus(rng):
    words = ["".join(rng.choices(SYLLABLES, k=rng.randint(1, 4))) for _ in range(200)]
    for _ in range(300):
        line = [rng.choice(words) for _ in range(rng.randint(3, 10))]
        if rng.random() < 0.3:
            line.append(str(rng.randint(0, 99999)))
        yield " ".join(line).capitalize() + rng.choice([".", "!", "?\n", " …", ""])


def texts(rng, count):
    out = []
    for _ in range(count):
        kind = rng.random()
        if kind < 0.8:
            out.append("".join(rng.choices(ALPHABET, k=rng.randint(1, 24))))
        elif kind < 0.9:
            out.append(" ".join("".join(rng.choices(SYLLABLES, k=rng.randint(1, 5))) for _ in range(rng.randint(1, 12))))
        else:
            out.append("".join(chr(rng.choice([rng.randint(0, 0x24F), rng.randint(0, 0xD7FF), rng.randint(0xE000, 0x1FFFF)]))
                               for _ in range(rng.randint(1, 12))))
    return out


FIXED = ["", " ", "  ", "\n", "a", "Hello, world!", "e\u0301 a\u0323\u0307 a\u0307\u0323 \u212b \uac00 \u1100\u1161\u11a8 \u0958",
         "<|end|>", "a<|end|>b", " <|end|> <|end|><|end|>", "<mask> <mask>  <mask>x", "a <strip>  b<strip>", "word sword word's words word",
         "NormÉ Norme\u0301 norm\u00e9", "ab" * 150, "\U00011937\U00011938 \U00011935\U00011930 \u32ff", " " * 120 + "x", "über né ça да не λόто 水山です", "x" * 120]


def added(t):
    t.add_special_tokens(["<|end|>", AddedToken("<mask>", lstrip=True, special=True)])
    t.add_tokens([AddedToken("<strip>", rstrip=True, normalized=False), AddedToken("word", single_word=True, normalized=False),
                  AddedToken("Norm\u00e9", normalized=True)])


def bpe(lines, size=300, **options):
    """A character BPE like SentencePiece's, with the 256 byte tokens when byte_fallback asks for them."""
    t = Tokenizer(models.BPE(unk_token="<unk>"))
    t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    t.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=size, show_progress=False, special_tokens=["<unk>", "<s>"]))
    model = json.loads(t.to_str())["model"]
    vocab = model["vocab"]
    if options.get("byte_fallback"):
        for b in range(256):
            vocab.setdefault(f"<0x{b:02X}>", len(vocab))
    t.model = models.BPE(vocab=vocab, merges=[tuple(m) for m in model["merges"]], unk_token="<unk>", **options)
    return t


def llama2(lines):
    t = bpe(lines, byte_fallback=True, fuse_unk=True)
    t.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    added(t)
    return t


def gemma(lines):
    t = bpe(lines, byte_fallback=True, fuse_unk=True, ignore_merges=True)
    t.normalizer = normalizers.Replace(" ", "▁")
    t.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    added(t)
    return t


def unknown(lines):
    t = bpe(lines, fuse_unk=True)
    t.normalizer = normalizers.Sequence([normalizers.Strip(), normalizers.NFKC(), normalizers.Lowercase()])
    t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    t.decoder = decoders.Metaspace(prepend_scheme="first")
    added(t)
    return t


def unknown_each(lines):
    t = bpe(lines, fuse_unk=False)
    t.normalizer = normalizers.NFD()
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(prepend_scheme="never", split=False),
                                               pre_tokenizers.Punctuation("merged_with_next")])
    t.decoder = decoders.Metaspace(prepend_scheme="never")
    return t


def suffix(lines):
    t = Tokenizer(models.BPE(unk_token="<unk>"))
    t.normalizer = normalizers.BertNormalizer(lowercase=True)
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    t.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=260, show_progress=False, special_tokens=["<unk>"], end_of_word_suffix="</w>"))
    t.decoder = decoders.BPEDecoder()
    return t


def prefix(lines):
    t = Tokenizer(models.BPE(unk_token="<unk>"))
    t.normalizer = normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents()])
    t.pre_tokenizer = pre_tokenizers.Whitespace()
    t.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=260, show_progress=False, special_tokens=["<unk>"],
                                                     continuing_subword_prefix="##"))
    t.decoder = decoders.WordPiece(cleanup=False)
    return t


def wordpiece(lines):
    t = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    t.normalizer = normalizers.BertNormalizer()
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    t.train_from_iterator(lines, trainers.WordPieceTrainer(vocab_size=260, show_progress=False, special_tokens=["[UNK]", "[CLS]", "[SEP]"]))
    t.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    t.decoder = decoders.WordPiece()
    return t


def split(lines, pattern):
    t = bpe(lines, fuse_unk=True)
    t.normalizer = None
    t.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), "isolated")
    t.decoder = decoders.Fuse()
    return t


def scripts(lines):
    """Scripts and classes of classes, as Kimi K2 has them, and properties by their long names."""
    return split(lines, r"[\p{Han}]+|[\p{Hira}\p{Katakana}]+"
                 r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
                 r"|\p{N}{1,3}|\p{extended-pictographic}+|[a&&b]|[[x-z][^\P{Uppercase Letter}]&&[^Y]]|\w\W|[^\w\s]{2}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+")


def wordlevel(lines):
    t = Tokenizer(models.WordLevel(unk_token="<unk>"))
    t.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.Replace(Regex(r"\s{2,}|é"), " ")])
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.UnicodeScripts(), pre_tokenizers.Digits()])
    t.train_from_iterator(lines, trainers.WordLevelTrainer(vocab_size=300, show_progress=False, special_tokens=["<unk>", "<pad>"]))
    t.enable_truncation(8, direction="left")
    t.enable_padding(pad_id=1, pad_token="<pad>", length=6, pad_to_multiple_of=4, direction="left")
    return t


def charsmap(rules):
    """A precompiled character map: a Darts double array of `rules`, made by placing each node where its children fit."""
    blob, places = b"", {}
    for key, text in rules.items():
        places[key.encode()] = len(blob)
        blob += text.encode() + b"\0"
    units = {0: 0}
    used = {0}

    def place(node, keys, depth):
        labels = sorted({k[depth] for k in keys if len(k) > depth})
        leaf = [k for k in keys if len(k) == depth]
        offset = next(o for o in range(1, 1 << 20) if (node ^ o) not in used and
                      all((node ^ o ^ l) not in used for l in labels) and not (leaf and (node ^ o) in used))
        base = node ^ offset
        used.add(base)
        units[node] = units.get(node, 0) | offset << 10 | (1 << 8 if leaf else 0)
        if leaf:
            units[base] = places[leaf[0]] | 1 << 31
        for l in labels:
            used.add(base ^ l)
            units[base ^ l] = l
        for l in labels:
            place(base ^ l, [k for k in keys if len(k) > depth and k[depth] == l], depth + 1)

    place(0, sorted(places), 0)
    array = b"".join(struct.pack("<I", units.get(i, 0)) for i in range(max(units) + 256 | 255))
    return struct.pack("<I", len(array)) + array + blob


def unigram(lines):
    t = Tokenizer(models.Unigram())
    rules = {"ﬁ": "fi", "①": "1", "e\u0301": "é", "\t": " ", "\n": " ", "\u200b": "", "Ａ": "A", "か\u3099": "が", "…": "...", "½": "1/2"}
    t.normalizer = normalizers.Sequence([normalizers.Precompiled(charsmap(rules)), normalizers.Replace(Regex(" {2,}"), " ")])
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    t.train_from_iterator(lines, trainers.UnigramTrainer(vocab_size=200, show_progress=False, special_tokens=["<unk>", "<s>"], unk_token="<unk>"))
    t.post_processor = processors.TemplateProcessing(single="$A <s>", special_tokens=[("<s>", 1)])
    t.decoder = decoders.Metaspace()
    added(t)
    return t


def unigram_bytes(lines):
    t = unigram(lines)
    model = json.loads(t.to_str())["model"]
    vocab = [tuple(v) for v in model["vocab"]] + [(f"<0x{b:02X}>", -20.0) for b in range(256)]
    out = Tokenizer(models.Unigram(vocab, unk_id=0, byte_fallback=True))
    out.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    out.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    return out


def bytes_spelled(lines):
    """ByteLevel in front of other steps, and a vocabulary of spelled bytes read by a model of characters."""
    t = Tokenizer(models.WordPiece(unk_token="[UNK]", continuing_subword_prefix=""))
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.ByteLevel(add_prefix_space=True), pre_tokenizers.Split(Regex("Ġ|[0-9]{2}"), "contiguous"),
                                               pre_tokenizers.FixedLength(5)])
    t.train_from_iterator(lines, trainers.WordPieceTrainer(vocab_size=400, show_progress=False, special_tokens=["[UNK]"],
                                                           initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), continuing_subword_prefix=""))
    t.decoder = decoders.ByteLevel()
    t.post_processor = processors.ByteLevel(trim_offsets=True, add_prefix_space=True)
    return t


def roberta(lines):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=400, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    added(t)
    t.post_processor = processors.RobertaProcessing(("<|end|>", 400), ("<mask>", 401), trim_offsets=True, add_prefix_space=True)
    return t


KINDS = [llama2, gemma, unknown, unknown_each, suffix, prefix, wordpiece, wordlevel, unigram, unigram_bytes, bytes_spelled, roberta, scripts]


def write(folder, name, tokenizer, rows):
    path = os.path.join(folder, name)
    os.makedirs(path, exist_ok=True)
    text = tokenizer if isinstance(tokenizer, str) else json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":"))
    with open(os.path.join(path, "tokenizer.json"), "w") as f:
        f.write(text)
    t = Tokenizer.from_str(text)
    free = Tokenizer.from_str(text)
    free.no_truncation()
    free.no_padding()
    changed = {i for i, a in t.get_added_tokens_decoder().items() if a.normalized and t.normalizer and t.normalizer.normalize_str(a.content) != a.content}
    with open(os.path.join(path, "gold.jsonl"), "w") as f:
        for row in rows:
            ids, plain = t.encode(row).ids, free.encode(row, add_special_tokens=False)
            decode = ids and not changed & set(ids)
            f.write(json.dumps({"text": row, "ids": ids, "plain": plain.ids, "offsets": [x for o in plain.offsets for x in o],
                                **({"decode": t.decode(ids, skip_special_tokens=False), "skip": t.decode(ids)} if decode else {})},
                               ensure_ascii=True, separators=(",", ":")) + "\n")


def main(command, folder, seed="2", count="60", *files):
    rng = random.Random(int(seed))
    if command == "fuzz-file":
        for file in files:
            text = (gzip.open(file, "rt") if file.endswith(".gz") else open(file)).read()
            write(folder, os.path.basename(file).split(".json")[0], text, texts(rng, int(count)))
        return
    every = [chr(c) for c in range(0x20000) if not 0xD800 <= c < 0xE000]
    swept = [" ".join(every[i:i + 16]) for i in range(0, len(every), 16)] + [
        "".join("a" + c + "\u0323\u0301" for c in every[i:i + 16]) for i in range(0, len(every), 16)]
    for kind in KINDS:
        rows = swept if command == "sweep" else (FIXED if command == "write" else []) + texts(rng, int(count))
        write(folder, kind.__name__, kind(list(corpus(random.Random(1)))), rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
