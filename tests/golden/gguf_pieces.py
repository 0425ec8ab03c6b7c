"""What llama.cpp's converter puts into GGUF of a folder with a SentencePiece tokenizer.model alone.

    python tests/golden/gguf_pieces.py tests/golden/sentencepiece tests/golden/sentencepiece_tokens.json tests/golden/gguf_pieces.json

Needs sentencepiece and gguf. Written down from convert_hf_to_gguf.py (_create_vocab_sentencepiece, LlamaModel.set_vocab): pieces, scores and
kinds come from the library, special ids from gguf's own SpecialVocab, and all of it goes through gguf's writer and reader once. A case has
vocab_size, as the model's config.json has it, and keys, as the test's reader spells them.
"""

import json
import os
import shutil
import sys
import tempfile

import gguf
import numpy
import sentencepiece

CASES = {"llama_marks": 512, "llama_eos_marks": 485}  # with rows to spare, and with too few
SCORES = "tokenizer.ggml.scores"


def looks_special(token):
    return token in ("<pad>", "<mask>", "<2mass>", "[@BOS@]") or any(
        token.startswith(a) and token.endswith(b) for a, b in (("<|", "|>"), ("<｜", "｜>"), ("<unused", ">")))


def vocabulary(folder, size):
    library = sentencepiece.SentencePieceProcessor(model_file=os.path.join(folder, "tokenizer.model"))
    made = [("[PAD%d]" % i, -10000.0, gguf.TokenType.UNUSED) for i in range(size)]
    for i in range(min(size, library.vocab_size())):
        kind = gguf.TokenType.NORMAL
        for is_one, other in ((library.IsUnknown, gguf.TokenType.UNKNOWN), (library.IsControl, gguf.TokenType.CONTROL),
                              (library.IsUnused, gguf.TokenType.UNUSED), (library.IsByte, gguf.TokenType.BYTE)):
            kind = other if is_one(i) else kind
        made[i] = (library.IdToPiece(i), library.GetScore(i), kind)
    for i, token in json.load(open(os.path.join(folder, "tokenizer_config.json")))["added_tokens_decoder"].items():
        if int(i) < size:
            special = token["special"] or looks_special(token["content"])
            text = token["content"] if special else token["content"].replace("▁", " ")
            made[int(i)] = (text, -1000.0, gguf.TokenType.CONTROL if special else gguf.TokenType.USER_DEFINED)
    return [list(part) for part in zip(*made)]


def spelled(field):
    if field.types[0] == gguf.GGUFValueType.ARRAY:
        parts = field.contents()
        write = (lambda x: "%f" % numpy.float32(x)) if field.types[1] == gguf.GGUFValueType.FLOAT32 else str
        return "%d:" % len(parts) + "".join(write(part) + "|" for part in parts)
    value = field.contents()
    return str(int(value)) if isinstance(value, (bool, int)) else str(value)


def keys_of(folder, size):
    path = os.path.join(folder, "vocab.gguf")
    writer = gguf.GGUFWriter(path, "llama")
    tokens, scores, kinds = vocabulary(folder, size)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(kinds)
    gguf.SpecialVocab(folder, n_vocab=size).add_to_gguf(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return {name: spelled(field) for name, field in gguf.GGUFReader(path).fields.items() if name.startswith("tokenizer.")}


if __name__ == "__main__":
    models, tokens, out = sys.argv[1:]
    gold = json.load(open(tokens))
    cases = {}
    for name, size in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(os.path.join(models, gold[name]["model"], "tokenizer.model"), folder)
            for file, content in gold[name]["saved"].items():
                json.dump(content, open(os.path.join(folder, file), "w"))
            cases[name] = {"vocab_size": size, "keys": keys_of(folder, size)}
    json.dump(cases, open(out, "w"), ensure_ascii=False, indent=0)
