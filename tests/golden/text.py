"""Trains small byte-level BPE tokenizers on text made up here and writes what Hugging Face `tokenizers` makes of awkward texts.

    python tests/golden/text.py tests/golden/text        # needs `tokenizers`; writes KIND/tokenizer.json and KIND/gold.jsonl

The kinds follow GPT-2 (ByteLevel with its own regex, added tokens in all their variants), Llama 3 (Split, ignore_merges, a
template), Qwen 2 (NFC), and one with the remaining parts: Digits, every Split behavior, a prefix space, unknown bytes.
"""

import json
import os
import random
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

LLAMA = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
         r"|\s+(?!\S)|\s+")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def corpus(rng):
    """Sentences of made-up words in four scripts, with numbers, quotes and code between them."""
    syllables = ["ba", "ke", "ri", "so", "tun", "mel", "über", "né", "ça", "да", "не", "ко", "το", "λό", "水", "山", "です"]
    words = ["".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(300)]
    for _ in range(600):
        line = [rng.choice(words) for _ in range(rng.randint(3, 12))]
        if rng.random() < 0.3:
            line.append(str(rng.randint(0, 99999)))
        if rng.random() < 0.3:
            line += ["it's", "we'll", "they're"]
        if rng.random() < 0.2:
            line.append("if (x[%d] != y) {\n    return;\n}" % rng.randint(0, 9))
        yield " ".join(line).capitalize() + rng.choice([".", "!", "?\n", " …", ""])


def texts(rng):
    """Fixed awkward texts, then random strings over an alphabet that provokes the regexes, the marks and the added tokens."""
    fixed = [
        "", " ", "  ", "\n", "\r\n\r\n", "\t x", "a", "Hello, world!", "it's WE'LL They'RE 'S 'ſ", "1234567 12 1 ١٢٣ ½ Ⅷ 一二三",
        "e\u0301 a\u0323\u0307 a\u0307\u0323 \u212b \uac00 \u1100\u1161\u11a8 \u0958 \u2126", "\u1e9b\u0323 q\u0307\u0323",
        "👩‍👩‍👧 🏳️‍🌈 🫩 \u200d\ufeff", "\u180e x\u180ey \u00a0\u2003\u3000z\u0085w", "  three   spaces    four\t\t tabs \n\n next",
        "<|end|>", "a<|end|>b", " <|end|> <|end|><|end|>", "<|endof|>text <|end", "<mask> <mask>  <mask>x", "a <strip>  b<strip>",
        "word sword word's words word", "NormÉ Norme\u0301 norm\u00e9", "\u0000\u0001\x7f", "\ud7ff\ue000\uffff\U0010ffff",
        "a" * 300, " " * 200 + "x", "ab" * 400, "\U00010570\U00010597 \U0001e4d0\U0001e4ec\U0001e4ed \u0897 \U00016d40",
        "\u0b47\u0b3e \U00011935\U00011930 \u0061\u0898\u0323", "if (x[3] != y) {\n    return;\n}\n", "über né ça да не λόто 水山です",
    ]
    alphabet = list("ab eéE'st1½٣.,!?\n\r\t (\u00a0\u2003") + [
        "\u0301", "\u0323", "\u0308", "水", "で", "か\u3099", "да", "\u1100", "\u1161", "\u11a8", "ǆ", "ǅ", "ʰ", "٠", "Ⅷ", "²", "_", "—",
        "€", "👍", "\u200d", "\u0e33", "\u0dd9", "\u0dcf", "\u09c7", "\u09be", "\U0001e130", "\u1715", "\u07fd", "\u0345", "<|end|>",
        "<mask>", "<strip>", "word", "Norm\u00e9", "Ğ", "  ", "'ll", "'RE"]
    syllables = ["ba", "ke", "ri", "so", "tun", "mel", "über", "né", "bat", "unke", "r", "t", "u"]
    fixed += ["".join(rng.choices(syllables, k=rng.randint(60, 160))) for _ in range(8)]  # words too long to merge by scanning
    for _ in range(160):
        fixed.append("".join(rng.choices(alphabet, k=rng.randint(1, 24))))
    return fixed


def added(tokenizer):
    tokenizer.add_special_tokens(["<|end|>", AddedToken("<mask>", lstrip=True, special=True)])
    tokenizer.add_tokens([
        AddedToken("<|endof|>", normalized=False), AddedToken("<strip>", rstrip=True, normalized=False),
        AddedToken("word", single_word=True, normalized=False), AddedToken("Norm\u00e9", normalized=True)])


def train(tokenizer, lines, vocab_size):
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=vocab_size, show_progress=False, initial_alphabet=alphabet))
    return tokenizer


def gpt2(lines):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    t.post_processor = processors.RobertaProcessing(("<|end|>", 420), ("<mask>", 421))
    train(t, lines, 420)
    added(t)
    return t


def llama(lines):
    t = Tokenizer(models.BPE(ignore_merges=True))
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LLAMA), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    train(t, lines, 480)
    t.add_special_tokens(["<|begin|>", "<|end|>"])
    t.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<|begin|> $A <|end|>", special_tokens=[("<|begin|>", 480), ("<|end|>", 481)])])
    return t


def qwen(lines):
    t = Tokenizer(models.BPE())
    t.normalizer = normalizers.NFC()
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(O200K), "removed", invert=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    train(t, lines, 420)
    added(t)
    return t


def parts(lines):
    """Built without training, so that bytes are missing and an unknown token stands for them."""
    trained = json.loads(gpt2(lines).to_str())["model"]
    hidden = {pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(c)[0][0] for c in "!?"}
    keep = [k for k in sorted(trained["vocab"], key=trained["vocab"].get) if not any(c in k for c in hidden)]
    vocab = {k: i for i, k in enumerate(["<unk>"] + keep)}
    merges = [tuple(m) for m in trained["merges"] if "".join(m) in vocab and m[0] in vocab and m[1] in vocab]
    t = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True))
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(",", "merged_with_previous"), pre_tokenizers.Split(Regex(r"\p{Lu}|\("), "merged_with_next"),
        pre_tokenizers.Split(Regex(r"[\t\u20AC]"), "removed"), pre_tokenizers.Split(".", "contiguous"),
        pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=True)])
    t.decoder = decoders.ByteLevel()
    t.add_special_tokens(["<|end|>"])
    return t


def main(folder):
    for name, build in [("gpt2", gpt2), ("llama", llama), ("qwen", qwen), ("parts", parts)]:
        tokenizer = build(list(corpus(random.Random(1))))
        path = os.path.join(folder, name)
        os.makedirs(path, exist_ok=True)
        with open(os.path.join(path, "tokenizer.json"), "w") as f:
            json.dump(json.loads(tokenizer.to_str()), f, ensure_ascii=False, separators=(",", ":"))
        with open(os.path.join(path, "gold.jsonl"), "w") as f:
            for text in texts(random.Random(2)):
                ids = tokenizer.encode(text).ids
                row = {"text": text, "ids": ids, "plain": tokenizer.encode(text, add_special_tokens=False).ids,
                       "decode": tokenizer.decode(ids, skip_special_tokens=False), "skip": tokenizer.decode(ids)}
                f.write(json.dumps(row, ensure_ascii=True, separators=(",", ":")) + "\n")


main(sys.argv[1])
