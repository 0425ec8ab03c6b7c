"""Reference for recipes/dpo.lua: TRL's DPOTrainer (1.16) on the tiny Qwen2 of adapters.py, a new LoRA adapter, SGD.

    PYTHONPATH=<where trl is> dpo.py     writes tests/golden/dpo: the adapter before the first step, the rows as tokens, and for plain
                                         and smoothed losses what each step measured (committed)

TRL's loss_type "sigmoid" knows no label smoothing by now; the smoothed loss is the one that it had to 0.2x (Mitchell, 2023), of the
log-probabilities that TRL computes.
"""
import json, os, shutil
os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch
import torch.nn.functional as F
from datasets import Dataset
from peft import LoraConfig
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer

import adapters

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "dpo")
STEPS, PAIRS, BETA, LR = 5, 2, 0.3, 0.5


def rows():
    def words(seed, count):
        return " ".join(str((seed * 13 + i * i * 5 + i) % 38 + 2) for i in range(count))
    return [{"prompt": words(i, 3 + i % 3), "chosen": " " + words(i + 20, 4 + i % 2), "rejected": " " + words(i + 50, 3 + i % 4)}
            for i in range(4)]


def tokenizer():
    inner = Tokenizer(models.WordLevel({"<pad>": 0, "<eos>": 1, **{str(i): i for i in range(2, 40)}}, unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>")


def train(smoothing):
    model = AutoModelForCausalLM.from_pretrained(os.path.join(adapters.HERE, "base_untied"), dtype=torch.float32)
    args = DPOConfig(output_dir="/tmp/dpo", beta=BETA, report_to=[], use_cpu=True, bf16=False, per_device_train_batch_size=PAIRS,
                     gradient_checkpointing=False, disable_dropout=True)
    torch.manual_seed(4)
    trainer = DPOTrainer(model, args=args, train_dataset=Dataset.from_list(rows()), processing_class=tokenizer(),
                         peft_config=LoraConfig(r=2, lora_alpha=8, target_modules=["q_proj", "v_proj", "up_proj", "down_proj"],
                                                task_type="CAUSAL_LM"))
    peft_model = trainer.model.float()
    if smoothing == 0:
        shutil.rmtree(HERE, ignore_errors=True)
        adapters.save_adapter(peft_model, HERE)
        with open(os.path.join(HERE, "pairs.jsonl"), "w") as file:
            for row in trainer.train_dataset:
                file.write(json.dumps({k: row[k] for k in ("prompt_ids", "chosen_ids", "rejected_ids")}) + "\n")
    optimizer = torch.optim.SGD([p for p in peft_model.parameters() if p.requires_grad], lr=LR)
    measured = []
    peft_model.train()
    for step in range(STEPS):
        examples = [trainer.train_dataset[(step * PAIRS + i) % 4] for i in range(PAIRS)]
        batch = trainer.data_collator(examples)
        trainer._metrics["train"].clear()
        loss = trainer._compute_loss(peft_model, batch, False)
        metrics = {k: v[-1] for k, v in trainer._metrics["train"].items() if k.startswith("rewards/")}
        if smoothing:
            logps = []
            for on in (True, False):
                with torch.set_grad_enabled(on):
                    context = torch.enable_grad() if on else peft_model.disable_adapter()
                    with context:
                        out = peft_model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
                lp = out[:, :-1].log_softmax(-1).gather(2, batch["input_ids"][:, 1:, None])[..., 0]
                logps.append((lp * batch["completion_mask"][:, 1:]).sum(1))
            ratio = logps[0] - logps[1]
            h = BETA * (ratio[:PAIRS] - ratio[PAIRS:])
            loss = (-(1 - smoothing) * F.logsigmoid(h) - smoothing * F.logsigmoid(-h)).mean()
        measured.append({"loss": loss.item(), **metrics})
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return measured


if __name__ == "__main__":
    found = {"beta": BETA, "lr": LR, "plain": train(0), "smoothed": train(0.1)}
    json.dump(found, open(os.path.join(HERE, "measured.json"), "w"), indent=1)
    print(json.dumps(found, indent=1))
