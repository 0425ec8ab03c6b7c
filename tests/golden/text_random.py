"""tokenizer.json drawn at random from everything that `tokenizers` knows, and pairs of texts.

    python tests/golden/text_random.py pairs tests/golden/text_pairs.json   # post-processors and truncation for pairs, on roberta of text_kinds
    python tests/golden/text_random.py fuzz FOLDER SEED TOKENIZERS TEXTS    # a folder for each of so many tokenizers, read by test_text
                                                                            # where FTENGINE_TEXT_FUZZ names FOLDER

Rows are those of text_kinds.py, and of pairs: pair (the second text), both (ids as the file states them), both_plain (without special
tokens) and offsets of either in characters, without padding. An error of `tokenizers` leaves a part out.
"""

import json
import os
import random
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from text_kinds import FIXED, charsmap, corpus, texts

RULES = {"ﬁ": "fi", "①": "1", "e\u0301": "é", "\t": " ", "\u200b": "", "か\u3099": "が", "…": "...", "½": "1/2", "\u00a0": " "}
BEHAVIORS = ["removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"]
SCHEMES = ["always", "first", "never"]
MARKS = [("<s>", 1), ("</s>", 2), ("<x>", 3)]
PATTERNS = [r"\s+", r"\p{L}+|\p{N}", r"\d{1,3}", r"[^\s\p{L}\p{N}]+", r" ?\p{L}+| ?\p{N}+|\s+(?!\S)|\s+", "a|b", r"\w+|[^\w\s]+", r"(?i:'s|'t|'re)"]


def flip(rng):
    return rng.random() < 0.5


def normalizer(rng):
    n = normalizers
    return rng.choice([n.NFC, n.NFD, n.NFKC, n.NFKD, n.Lowercase, n.StripAccents, n.Nmt,
                       lambda: n.Replace(rng.choice([" ", "a", "ba", "é", "  ", "▁"]), rng.choice(["▁", "", "xy", " ", "é"])),
                       lambda: n.Replace(Regex(rng.choice(PATTERNS + [" {2,}", "é|a+"])), rng.choice(["▁", "", " ", "zz"])),
                       lambda: n.Prepend(rng.choice(["▁", "ab ", "é"])), lambda: n.Strip(flip(rng), flip(rng)),
                       lambda: n.Precompiled(charsmap(RULES)), lambda: n.BertNormalizer(flip(rng), flip(rng), rng.choice([None, True, False]), flip(rng))])()


def pre_tokenizer(rng):
    p = pre_tokenizers
    return rng.choice([p.Whitespace, p.WhitespaceSplit, p.BertPreTokenizer, p.UnicodeScripts, lambda: p.Digits(flip(rng)),
                       lambda: p.Punctuation(rng.choice(BEHAVIORS)), lambda: p.FixedLength(rng.randint(1, 7)),
                       lambda: p.CharDelimiterSplit(rng.choice([" ", "a", "▁", "é"])),
                       lambda: p.Metaspace("▁", rng.choice(SCHEMES), flip(rng)), lambda: p.ByteLevel(flip(rng), True, flip(rng)),
                       lambda: p.Split(rng.choice([" ", "a", "ba", "▁", "\n"]), rng.choice(BEHAVIORS), flip(rng)),
                       lambda: p.Split(Regex(rng.choice(PATTERNS)), rng.choice(BEHAVIORS), flip(rng))])()


def decoder(rng):
    d = decoders
    return rng.choice([d.ByteLevel, d.ByteFallback, d.Fuse, lambda: d.Metaspace("▁", rng.choice(SCHEMES), flip(rng)),
                       lambda: d.Replace(rng.choice(["▁", "a", "##", " "]), rng.choice([" ", "", "b"])),
                       lambda: d.Strip(rng.choice([" ", "▁", "a"]), rng.randint(0, 2), rng.randint(0, 2)),
                       lambda: d.WordPiece(rng.choice(["##", ""]), flip(rng)), lambda: d.BPEDecoder(rng.choice(["</w>", "a"])),
                       lambda: d.CTC("<pad>", rng.choice(["▁", "|"]), flip(rng))])()


def template(rng):
    def piece(texts):
        special = [rng.choice(MARKS)[0] for _ in range(rng.randint(0, 2))]
        out = list(texts) + special
        rng.shuffle(out)
        return [p + ":%d" % rng.randint(0, 1) for p in out]
    return processors.TemplateProcessing(single=piece(["$A"]), pair=piece(["$A", "$B"]), special_tokens=MARKS)


def post_processor(rng, trims, deep=True):
    """trims: not for Unigram, where an unknown token is called by its text, and may begin with a space."""
    p = processors
    sep, cls = rng.sample(MARKS, 2)
    kinds = [lambda: p.ByteLevel(add_prefix_space=flip(rng), trim_offsets=trims and flip(rng)), lambda: template(rng), lambda: p.BertProcessing(sep, cls),
             lambda: p.RobertaProcessing(sep, cls, trims and flip(rng), flip(rng))]
    if deep:  # at most one of each, a template behind them: `tokenizers` panics at a second one
        kinds.append(lambda: p.Sequence([post_processor(rng, trims, False)] if flip(rng) else [kinds[0](), rng.choice(kinds[1:4])()]))
    return rng.choice(kinds)()


def several(rng, draw, sequence):
    count = rng.choice([0, 1, 1, 2, 3])
    return None if count == 0 else draw(rng) if count == 1 else sequence([draw(rng) for _ in range(count)])


def shaped(rng, t):
    room = max(map(t.num_special_tokens_to_add, (True, False)))  # below it, `tokenizers` counts below 0 and cuts nothing
    if flip(rng):
        t.enable_truncation(rng.choice([room, rng.randint(room, 14 + room)]), strategy=rng.choice(["longest_first", "only_first", "only_second"]), direction=rng.choice(["left", "right"]))
    if rng.random() < 0.2:
        t.enable_padding(pad_id=1, pad_token="<pad>", length=rng.choice([None, 5, 20]), pad_to_multiple_of=rng.choice([None, 4]), direction=rng.choice(["left", "right"]))


def model(rng, t, lines):
    kind = rng.choice(["bpe", "bpe", "unigram", "wordpiece", "wordlevel"])
    special = ["<unk>"] + [m for m, _ in MARKS]
    options = dict(show_progress=False, special_tokens=special)
    if kind == "bpe":
        drops = flip(rng) and "ByteLevel" in str(t.pre_tokenizer).split("(")[-2:][0]  # a character it has no token for moves places behind it
        t.model = models.BPE(unk_token=None if drops else "<unk>")
        if drops or flip(rng):
            options["initial_alphabet"] = pre_tokenizers.ByteLevel.alphabet()
        if rng.random() < 0.2:
            options["end_of_word_suffix"] = "</w>"
        elif rng.random() < 0.2:
            options["continuing_subword_prefix"] = "##"
        t.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=rng.choice([120, 300, 500]), **options))
        changed = json.loads(t.to_str())
        m = changed["model"]
        m["fuse_unk"], m["ignore_merges"] = flip(rng), rng.random() < 0.3
        if rng.random() < 0.3 and not m["end_of_word_suffix"] and not m["continuing_subword_prefix"]:
            m["byte_fallback"] = True
            for b in range(256 if flip(rng) else 128):
                m["vocab"].setdefault("<0x%02X>" % b, len(m["vocab"]))
        return Tokenizer.from_str(json.dumps(changed))
    if kind == "unigram":
        t.model = models.Unigram()
        t.train_from_iterator(lines, trainers.UnigramTrainer(vocab_size=rng.choice([120, 250]), unk_token="<unk>", **options))
    elif kind == "wordpiece":
        t.model = models.WordPiece(unk_token="<unk>", max_input_chars_per_word=rng.choice([5, 100]))
        t.train_from_iterator(lines, trainers.WordPieceTrainer(vocab_size=rng.choice([150, 300]), **options))
    else:
        t.model = models.WordLevel(unk_token="<unk>")
        t.train_from_iterator(lines, trainers.WordLevelTrainer(vocab_size=300, **options))
    return t


def added(rng, t):
    for text in rng.sample(["<|end|>", "<mask>", "<strip>", "word", "Norm\u00e9", "ba", " ke", "é", "水"], rng.randint(0, 5)):
        token = AddedToken(text, single_word=rng.random() < 0.3, lstrip=rng.random() < 0.3, rstrip=rng.random() < 0.3, normalized=flip(rng), special=flip(rng))
        t.add_special_tokens([token]) if flip(rng) else t.add_tokens([token])


def clear(t):
    """Of two added tokens that the normalizer makes one, `tokenizers` takes now this, now that; one of which it leaves nothing cuts texts
    into characters. And it trims an added token by the spaces of the normalized text where it found it, which is gone by the time that
    this engine trims."""
    if '"trim_offsets":true' in t.to_str() and any(a.normalized for a in t.get_added_tokens_decoder().values()):
        return False
    same = [t.normalizer.normalize_str(a.content) if t.normalizer and a.normalized else a.content for a in t.get_added_tokens_decoder().values()]
    return len(set(same)) == len(same) and "" not in same


def drawn(rng, lines):
    t = Tokenizer(models.WordLevel())
    normal, pre = several(rng, normalizer, normalizers.Sequence), several(rng, pre_tokenizer, pre_tokenizers.Sequence)
    if normal:
        t.normalizer = normal
    if pre:
        t.pre_tokenizer = pre
    t = model(rng, t, lines)
    out = several(rng, decoder, decoders.Sequence)
    if out:
        t.decoder = out
    if rng.random() < 0.8:
        t.post_processor = post_processor(rng, "Unigram" not in type(t.model).__name__)
    added(rng, t)
    shaped(rng, t)
    return t


def attempt(make):
    try:
        return make()
    except BaseException as error:  # a panic of Rust's is no Exception
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        return None


def offsets(encoding):
    return [x for o in encoding.offsets for x in o]


def rows(text, every):
    t, cut, free = Tokenizer.from_str(text), Tokenizer.from_str(text), Tokenizer.from_str(text)
    cut.no_padding()
    free.no_padding()
    free.no_truncation()
    changed = {i for i, a in t.get_added_tokens_decoder().items() if a.normalized and t.normalizer and attempt(lambda: t.normalizer.normalize_str(a.content)) != a.content}
    for i, one in enumerate(every):
        row, ids, plain = {"text": one}, attempt(lambda: t.encode(one).ids), attempt(lambda: free.encode(one, add_special_tokens=False))
        if plain is None:
            continue
        row.update(plain=plain.ids, offsets=offsets(plain), **({} if ids is None else {"ids": ids}))
        if ids and not changed & set(ids):
            decode, skip = attempt(lambda: t.decode(ids, skip_special_tokens=False)), attempt(lambda: t.decode(ids))
            row.update({} if decode is None or skip is None else {"decode": decode, "skip": skip})
        if i % 2:
            row["pair"] = every[i - 1]
            for name, special in (("both", True), ("both_plain", False)):
                both, kept = (attempt(lambda: x.encode(one, row["pair"], add_special_tokens=special)) for x in (t, cut))
                row[name] = None if both is None else both.ids
                row[name + "_offsets"] = None if kept is None else offsets(kept)
        yield row


def fuzz(folder, seed, count, length):
    rng = random.Random(int(seed))
    lines = list(corpus(random.Random(1)))
    for i in range(int(count)):
        t = attempt(lambda: drawn(rng, lines))
        text = t and attempt(t.to_str)
        if not text or attempt(lambda: Tokenizer.from_str(text)) is None or not attempt(lambda: clear(t)):
            continue
        path = os.path.join(folder, "%s_%d" % (seed, i))
        os.makedirs(path, exist_ok=True)
        with open(os.path.join(path, "tokenizer.json"), "w") as f:
            f.write(text)
        with open(os.path.join(path, "gold.jsonl"), "w") as f:
            f.writelines(json.dumps(row, separators=(",", ":")) + "\n" for row in rows(text, FIXED[:12] + texts(rng, int(length))))


def pairs(file):
    rng = random.Random(5)
    base = json.load(open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "text_kinds", "roberta", "tokenizer.json")))
    every = [t for t in FIXED[:9] + texts(rng, 6) if len(t) < 24]
    cases = []
    processor = [json.loads(p.__getstate__()) for p in (processors.ByteLevel(), processors.BertProcessing(*MARKS[:2]), processors.RobertaProcessing(*MARKS[:2]),
                 processors.TemplateProcessing(single="<s> $A </s>", pair="<s> $B </s> <x> $A:1", special_tokens=MARKS),
                 processors.Sequence([processors.ByteLevel(trim_offsets=True), processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=MARKS)]))] + [None]
    for i, strategy in enumerate(["LongestFirst", "OnlyFirst", "OnlySecond", None]):
        for k, one in enumerate(processor):
            case = {"post_processor": one, "truncation": strategy and {"direction": "Left" if (i + k) % 2 else "Right", "max_length": 7 + k, "strategy": strategy, "stride": 0},
                    "padding": {"strategy": {"Fixed": 12}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 1, "pad_type_id": 0, "pad_token": "<pad>"} if k % 3 == 0 else None}
            made = rows(json.dumps({**base, **case}), every[i % 2:])
            case["rows"] = [{key: row[key] for key in row if key == "text" or key.startswith(("pair", "both"))} for row in made if "pair" in row]
            cases.append(case)
    json.dump(cases, open(file, "w"), ensure_ascii=True, separators=(",", ":"))


if __name__ == "__main__":
    {"pairs": pairs, "fuzz": fuzz}[sys.argv[1]](*sys.argv[2:])
