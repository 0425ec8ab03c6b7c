"""Small SentencePiece models, and what transformers' slow tokenizers make of awkward texts with them.

    python tests/golden/sentencepiece_models.py write tests/golden/sentencepiece
    python tests/golden/sentencepiece_models.py fuzz FOLDER SEED COUNT [MODEL …]   # COUNT fresh texts each; others' tokenizer.model too

Needs `sentencepiece` 0.2.0 (later ones give no places) and the last transformers that has slow Llama and Gemma tokenizers (4.57); `fuzz` trains its Unigram models with
the library's own nmt_nfkc rules, whose 240 KB are too many to be kept. Each folder gets tokenizer.model, tokenizer_config.json and
gold.jsonl, which test_text reads, from the folder FTENGINE_SENTENCEPIECE_FUZZ names for a fuzz. A row has text, ids (bos and eos as the
configuration says), plain (without), decode and skip by the decoders that transformers 5 gives these tokenizers, and for texts without
added tokens offsets: where each token begins and ends, in bytes, as the library says.
"""

import io
import json
import os
import random
import shutil
import sys

import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as pb2
from tokenizers import decoders
from transformers import GemmaTokenizer, LlamaTokenizer

SYLLABLES = ["ba", "ke", "ri", "so", "tun", "mel", "über", "né", "ça", "да", "не", "ко", "το", "λό", "水", "山", "です"]
ALPHABET = list("ab eéE'st1½٣.,!?\n\r\t (\u00a0\u2003▁") + [
    "\u0301", "\u0323", "水", "で", "カ", "да", "ﬁ", "①", "ｶﾞ", "한", "\u0000", "\u0007", "\u200b", "\ufeff", "\ufffd", "㋿", "Ａｂ", "🙂",
    "👩‍👩‍👧", "  ", "   ", "    ", "<s>", "</s>", "<unk>", "<0x0A>", "<sym>", "<sy", "<ctl>", "ab", "ba", " ba", " ke", "tun", "\n\n", "\r\n",
    "x\u0323\u0301", "Å", "xyz", "xy", "<pad>", "word", "▁▁", "né"]
FIXED = ["", " ", "  ", "\n", "a", "Hello, world!", " Hello", "  Hello  world  ", "<s>", "a<s>b", " <s> a </s> ", "<s> a", "<sym>", "a<sym>b",
         "<sym> a", "<ctl>x", "x <ctl> y", "x  y   z    w", "▁a▁▁b", "\t\ta\tb", "über né ça да не λόто 水山です", "ﬁ ½ Ａｂ ①", "🙂👩‍👩‍👧",
         "x" * 90, "ab" * 60, "xyz xy x", "\u0000\u0001", "<0x0A>\n", "word sword <pad> word", "a \n b", "\u00a0a\u00a0", "baba" * 20, "<unk>a"]
# A few of nmt_nfkc's rules, of every shape: one to one, to several, several to one, to nothing, to a space, and one that begins another.
RULES = [("Ａ", "A"), ("ｂ", "b"), ("½", "1⁄2"), ("ﬁ", "fi"), ("①", "1"), ("\u200b", ""), ("\u0007", ""), ("\t", " "), ("\n", " "), ("\r", " "), ("\u00a0", " "),
         ("\u2003", " "), ("▁", " "), ("ｶ", "カ"), ("ｶﾞ", "ガ"), ("x\u0323", "ẋ"), ("x\u0323\u0301", "ẍ"), ("E", "e"), ("㋿", " 令和 "), ("\ufeff", "")]


def corpus(rng):
    words = ["".join(rng.choices(SYLLABLES, k=rng.randint(1, 4))) for _ in range(200)]
    for _ in range(400):
        line = [rng.choice(words) for _ in range(rng.randint(3, 10))]
        if rng.random() < 0.3:
            line.append(str(rng.randint(0, 99999)))
        yield (" " * rng.randint(1, 3)).join(line).capitalize() + rng.choice([".", "!", "?", " …", ""])


def texts(rng, count):
    for _ in range(count):
        kind = rng.random()
        if kind < 0.8:
            yield "".join(rng.choices(ALPHABET, k=rng.randint(1, 24)))
        elif kind < 0.9:
            yield " ".join("".join(rng.choices(SYLLABLES, k=rng.randint(1, 5))) for _ in range(rng.randint(1, 12)))
        else:
            yield "".join(chr(rng.choice([rng.randint(1, 0x24F), rng.randint(1, 0xD7FF), rng.randint(0xE000, 0x1FFFF)])) for _ in range(rng.randint(1, 12)))


def train(rules, **options):
    made = io.BytesIO()
    if rules:
        with open("/tmp/ft_rules.tsv", "w") as f:
            f.writelines(" ".join("%X" % ord(c) for c in old) + "\t" + " ".join("%X" % ord(c) for c in new) + "\n" for old, new in RULES)
        options["normalization_rule_tsv"] = "/tmp/ft_rules.tsv"
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(list(corpus(random.Random(1)))), model_writer=made, hard_vocab_limit=False,
                                             num_threads=1, minloglevel=2, character_coverage=0.98, **options)
    return made.getvalue()


def with_unused(model):
    """Pieces that may not be used: BPE takes their merges back, Unigram goes round them."""
    proto = pb2.ModelProto.FromString(model)
    for i, piece in enumerate(proto.pieces):
        if piece.type == pb2.ModelProto.SentencePiece.NORMAL and len(piece.piece) > 2 and i % 3 == 0:
            piece.type = pb2.ModelProto.SentencePiece.UNUSED
    return proto.SerializeToString()


def models(fuzz):
    nmt = dict(rules=False, normalization_rule_name="nmt_nfkc") if fuzz else dict(rules=True)
    bytes_bpe = dict(model_type="bpe", byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False, rules=False)
    llama = train(vocab_size=480, **bytes_bpe)
    symbols = train(vocab_size=470, user_defined_symbols=["<sym>", "▁▁", "▁▁▁", "xyz", "\n\n"], control_symbols=["<ctl>"], pad_id=0, eos_id=1, bos_id=2, unk_id=3,
                    add_dummy_prefix=False, **bytes_bpe)
    unigram = train(vocab_size=180, model_type="unigram", user_defined_symbols=["<sym>", "ab"], control_symbols=["<ctl>"], **nmt)
    unigram_bytes = train(vocab_size=400, model_type="unigram", byte_fallback=True, add_dummy_prefix=False, remove_extra_whitespaces=False, **nmt)
    bpe_rules = train(vocab_size=200, model_type="bpe", user_defined_symbols=["<sym>", "Ａ"], **nmt)
    ctl = {"additional_special_tokens": ["<ctl>"]}
    more = {"added_tokens_decoder": {str(pb2.ModelProto.FromString(llama).pieces.__len__()): {"content": "<pad>", "special": True, "lstrip": False, "rstrip": False, "normalized": False, "single_word": False}},
            "pad_token": "<pad>"}
    old, new = {"legacy": True}, {"legacy": False}
    return [("llama", LlamaTokenizer, llama, {**old, **more}), ("llama_new", LlamaTokenizer, llama, new),
            ("llama_eos", LlamaTokenizer, with_unused(llama), {**new, "add_bos_token": False, "add_eos_token": True, "add_prefix_space": False}),
            ("gemma", GemmaTokenizer, symbols, {**ctl, "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}),
            ("unigram", LlamaTokenizer, unigram, {**old, **ctl}), ("unigram_new", LlamaTokenizer, unigram, {**new, **ctl}),
            ("unigram_bytes", LlamaTokenizer, with_unused(unigram_bytes), old), ("bpe_rules", LlamaTokenizer, bpe_rules, {**old, "add_eos_token": True})]


def decoder(model, config):
    proto = pb2.ModelProto.FromString(model)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    prefix = config.get("add_prefix_space", True) if config.get("legacy") is False else proto.normalizer_spec.add_dummy_prefix
    return decoders.Sequence(steps + ([decoders.Strip(" ", 1, 0)] if prefix else []))


def rows(tokenizer, library, chain, kind, all_texts):
    for text in all_texts:
        ids = tokenizer.encode(text)
        plain = tokenizer.encode(text, add_special_tokens=False)
        row = {"text": text, "ids": ids, "plain": plain}
        for name, kept in [("decode", ids), ("skip", [i for i in ids if i not in tokenizer.all_special_ids])]:
            row[name] = chain.decode(tokenizer.convert_ids_to_tokens(kept)) if kept else ""
        if kind and not any(token in text for token in tokenizer.added_tokens_encoder):
            made = library.encode(text, out_type="immutable_proto")
            if [p.id for p in made.pieces] == plain:
                places = [0]
                for c in text:
                    places.append(places[-1] + len(c.encode()))
                row["offsets"] = [places[p] for piece in made.pieces for p in (piece.begin, piece.end)]
        yield row


def write(folder, all_texts, made):
    for name, kind, model, config in made:
        path = os.path.join(folder, name)
        os.makedirs(path, exist_ok=True)
        file = os.path.join(path, "tokenizer.model")
        with open(file, "wb") as f:
            f.write(model)
        config = {**config, "tokenizer_class": kind.__name__}
        with open(os.path.join(path, "tokenizer_config.json"), "w") as f:
            json.dump(config, f, ensure_ascii=False)
        tokenizer = kind.from_pretrained(path)
        library = sentencepiece.SentencePieceProcessor(model_file=file)
        with open(os.path.join(path, "gold.jsonl"), "w") as f:
            for row in rows(tokenizer, library, decoder(model, config), config.get("legacy", True), all_texts):
                f.write(json.dumps(row, ensure_ascii=True, separators=(",", ":")) + "\n")
        print(name, len(all_texts), "texts", file=sys.stderr)


if __name__ == "__main__":
    if sys.argv[1] == "write":
        shutil.rmtree(sys.argv[2], ignore_errors=True)
        write(sys.argv[2], FIXED + list(texts(random.Random(2), 12)), models(False))
    else:
        given = [(os.path.basename(os.path.dirname(p)) + str(i), LlamaTokenizer, open(p, "rb").read(), {"legacy": bool(i % 2)}) for p in sys.argv[5:] for i in range(2)]
        write(sys.argv[2], FIXED + list(texts(random.Random(int(sys.argv[3])), int(sys.argv[4]))), models(True) + given)
