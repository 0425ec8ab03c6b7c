"""Reference for tokens that a plan adds: transformers' resize_token_embeddings on the tiny models of tests/golden/adapters.

    tokens.py make                    writes tests/golden/tokens.json: losses of SGD steps on the grown models, and what these compute
                                      afterwards, for `ftengine parity` (tests/golden/tokens_*.safetensors; committed)
    tokens.py check MODEL TEXT        loads MODEL, which the engine merged, with its tokenizer; prints {"ids", "loss"} of TEXT
    tokens.py adapter BASE ADAPTER    loads ADAPTER in peft on BASE, resized as peft's users do it; prints its loss over the golden ids

New rows are transformers' but for the noise that it adds to their mean (a variance of 1e-9 of the old rows').
"""
import json, os, sys
os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
OLD, ROWS, LENGTH, STEPS, LR = 40, 2, 12, 3, 0.05
SIZES = {"untied": 43, "tied": 64}


def tokens():
    # ids 40 to 42 are new: the first is never read, the others are read and learned
    ids = [(i * 7 + (i * i) % 11 + 3) % OLD for i in range(ROWS * LENGTH)]
    for i, token in ((2, 41), (5, 42), (7, 41), (15, 42), (20, 41)):
        ids[i] = token
    return torch.tensor(ids).view(ROWS, LENGTH)


def grown(base, size):
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    means = [table.weight.data.double().mean(0).float() for table in (model.get_input_embeddings(), model.get_output_embeddings())]
    model.resize_token_embeddings(size)
    for table, mean in zip((model.get_input_embeddings(), model.get_output_embeddings()), means):
        noise = (table.weight.data[OLD:] - mean).abs().max().item()
        assert noise < 1e-3 * table.weight.data.std().item(), noise
        table.weight.data[OLD:] = mean
    return model


def make():
    cases = {}
    for tied, size in SIZES.items():
        model = grown(os.path.join(HERE, "adapters", "base_" + tied), size)
        optimizer = torch.optim.SGD(model.parameters(), lr=LR)
        losses = []
        for _ in range(STEPS):
            loss = model(tokens(), labels=tokens()).loss
            losses.append(loss.item())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            out = model(tokens(), labels=tokens())
        save_file({"tokens": tokens(), "loss": out.loss, "logits": out.logits}, os.path.join(HERE, f"tokens_{tied}.safetensors"))
        cases[tied] = dict(size=size, losses=losses, row=model.get_input_embeddings().weight.data[41].tolist())
    json.dump(dict(ids=tokens().tolist(), cases=cases), open(os.path.join(HERE, "tokens.json"), "w"), indent=1)


def check(folder, text):
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    batch = tokenizer(text, return_tensors="pt")["input_ids"]
    loss = model(batch, labels=batch).loss.item()
    marks = {name: getattr(tokenizer, name + "_token_id") for name in ("bos", "eos", "pad")}
    said = {name: getattr(model.generation_config, name + "_token_id") for name in ("bos", "eos", "pad")}
    print(json.dumps(dict(ids=batch[0].tolist(), loss=loss, rows=model.get_input_embeddings().weight.shape[0],
                          tokenizer=len(tokenizer), marks=marks, generation=said)))


def adapter(base, folder):
    from peft import PeftModel
    size = len(AutoTokenizer.from_pretrained(folder))
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model.resize_token_embeddings(size, mean_resizing=False)  # its new rows are the adapter's, or nothing
    lora = PeftModel.from_pretrained(model, folder)
    print(json.dumps(dict(loss=lora(tokens(), labels=tokens()).loss.item(), rows=size)))


if __name__ == "__main__":
    {"make": make, "check": check, "adapter": adapter}[sys.argv[1]](*sys.argv[2:])
