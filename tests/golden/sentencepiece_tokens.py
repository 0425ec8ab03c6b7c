"""Tokens added to folders that have a SentencePiece tokenizer.model alone: the ids, and the files, that transformers gives them.

    python tests/golden/sentencepiece_tokens.py write tests/golden/sentencepiece tests/golden/sentencepiece_tokens.json
    python tests/golden/sentencepiece_tokens.py check FOLDER GOLD CASE     # a folder of the engine's, read by transformers 5

`write` needs what sentencepiece_models.py needs (transformers 4.57, the last one with slow tokenizers); `check` wants transformers 5,
sentencepiece and protobuf, and prints which texts have other ids or decoded text. It has none for llama_new. With `legacy`,
transformers 5 puts no second "▁" before a space behind an added token, and it reads any model as a BPE with bytes whose pieces are all used:
the rest is held to 4.57.
Texts that begin with an added token that is not special are left out without `legacy`: the slow tokenizer has a lone "▁" before it, the
others, and the engine, nothing.

A case has edits (as engine/text/edited_tokenizer.h has them), new ({text: id}), files (what save_pretrained writes beside the model, and
what transformers before 4.34 wrote) and rows: text, ids, plain (without bos and eos), decode, skip.
"""

import json
import os
import shutil
import sys
import tempfile

from transformers import AddedToken, LlamaTokenizer

EDITS = {
    "plain": {"added_tokens": ["<think>", "</think>"]},
    "marks": {"special_tokens": {"additional_special_tokens": ["<|user|>", "<|end|>"], "eos_token": "<|end|>", "pad_token": "<pad>"},
              "added_tokens": ["<t>", "ab", "двa", "a b"]},
}
CASES = [("llama", "plain"), ("llama", "marks"), ("llama_new", "marks"), ("llama_eos", "marks"), ("unigram", "marks"), ("unigram_bytes", "plain"),
         ("bpe_rules", "marks")]
TEXTS = ["", "a", "Hello, world!", "x<think>y</think>z", "x <think> y </think> z", "<think>", "<think>\n\nab</think>", "<|user|>Hello<|end|>",
         "<|user|> ba ke <|end|>\n", "tun<t>mel", "tun <t> mel", "cab abc", "ab", "двa не", "a bad a b", "<pad><pad>ba", "<s>ba", "über né<t>ça", "水<t>山",
         "🙂<|end|>🙂", "<t><t>", "<th", "<|end|", "ba  <t>  ke", "<unk><t>"]


def tokens(name):
    return [AddedToken(t, normalized=False, special=False) for t in EDITS[name].get("added_tokens", [])]


def edited(folder, edits):
    tokenizer = LlamaTokenizer.from_pretrained(folder)
    special = {}
    for key, value in EDITS[edits].get("special_tokens", {}).items():
        mark = lambda text: AddedToken(text, normalized=False, special=True)
        special[key] = [mark(text) for text in value] if isinstance(value, list) else mark(value)
    before = len(tokenizer)
    tokenizer.add_special_tokens(special, replace_additional_special_tokens=False)
    tokenizer.add_tokens(tokens(edits))
    return tokenizer, {text: i for text, i in tokenizer.added_tokens_encoder.items() if i >= before}


def saved(tokenizer):
    """The files of save_pretrained, and with the parts that older versions did not have left out."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        files = {name: json.load(open(os.path.join(folder, name))) for name in sorted(os.listdir(folder)) if name.endswith(".json")}
    older = json.loads(json.dumps(files))
    del older["tokenizer_config.json"]["added_tokens_decoder"]
    for key in ("bos_token", "eos_token", "unk_token", "pad_token", "additional_special_tokens"):
        older["tokenizer_config.json"].pop(key, None)
    return files, older


def disagrees(folder, files, rows):
    """What the slow tokenizer reads of these files otherwise than it wrote."""
    with tempfile.TemporaryDirectory() as again:
        shutil.copy(os.path.join(folder, "tokenizer.model"), again)
        for entry, value in files.items():
            json.dump(value, open(os.path.join(again, entry), "w"))
        other = LlamaTokenizer.from_pretrained(again)
        return [(row["text"], row["ids"], other.encode(row["text"])) for row in rows if other.encode(row["text"]) != row["ids"]]


def write(models, file):
    from sentencepiece_models import decoder
    made = {}
    for model, edits in CASES:
        folder = os.path.join(models, model)
        tokenizer, new = edited(folder, edits)
        chain = decoder(open(os.path.join(folder, "tokenizer.model"), "rb").read(), json.load(open(os.path.join(folder, "tokenizer_config.json"))))
        rows = []
        for text in TEXTS:
            if not tokenizer.legacy and text.startswith(tuple(t for t in new if t not in tokenizer.all_special_tokens)):
                continue
            ids = tokenizer.encode(text)
            row = {"text": text, "ids": ids, "plain": tokenizer.encode(text, add_special_tokens=False)}
            for name, kept in [("decode", ids), ("skip", [i for i in ids if i not in tokenizer.all_special_ids])]:
                row[name] = chain.decode(tokenizer.convert_ids_to_tokens(kept)) if kept else ""
            rows.append(row)
        files, older = saved(tokenizer)
        if disagrees(folder, files, rows):
            raise SystemExit((model, edits, disagrees(folder, files, rows)))
        if disagrees(folder, older, rows):  # 4.57 itself does not read an eos_token of older files right
            older = None
        made[model + "_" + edits] = {"model": model, "edits": EDITS[edits], "new": new, "saved": files, "older": older, "rows": rows}
    json.dump(made, open(file, "w"), ensure_ascii=True, indent=None, separators=(",", ":"))


def check(folder, file, case):
    from transformers import AutoTokenizer
    tokenizer, gold = AutoTokenizer.from_pretrained(folder), json.load(open(file))[case]
    differ = []
    for row in gold["rows"]:
        ids = tokenizer.encode(row["text"])
        said = [ids, tokenizer.encode(row["text"], add_special_tokens=False), tokenizer.decode(row["ids"]), tokenizer.decode(row["ids"], skip_special_tokens=True)]
        if said != [row["ids"], row["plain"], row["decode"], row["skip"]]:
            differ.append([row["text"], said, [row["ids"], row["plain"], row["decode"], row["skip"]]])
    print(json.dumps({"rows": len(gold["rows"]), "size": len(tokenizer), "differ": differ}, ensure_ascii=False))


if __name__ == "__main__":
    {"write": write, "check": check}[sys.argv[1]](*sys.argv[2:])
