"""Reference for adapters: peft on a tiny Qwen2 (its q, k, v have biases), one adapter for each thing that LoraConfig can ask for.

    adapters.py make         writes tests/golden/adapters: base_tied and base_untied, and for each case its adapter, the logits and the
                             losses and adapter of a few SGD steps (committed)
    adapters.py check CASE ADAPTER   loads ADAPTER, which the engine wrote after the same steps, in peft; prints how far its loss
                             is from what peft's own training came to

Values are drawn by a formula and kept small; inputs are tokens by a formula. All in fp32.
"""
import json, os, shutil, sys
os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "adapters")
VOCAB, ROWS, LENGTH, STEPS, LR = 40, 2, 12, 3, 0.05
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CASES = {
    "dora": ("untied", dict(target_modules=["q_proj", "o_proj", "down_proj"], use_dora=True)),
    "patterns": ("untied", dict(target_modules=ALL, rank_pattern={"layers.1.mlp.up_proj": 3, "q_proj": 1},
                                alpha_pattern={"self_attn.v_proj": 5}, use_rslora=True)),
    "bias": ("untied", dict(target_modules=["q_proj", "v_proj"], lora_bias=True)),
    "layers": ("untied", dict(target_modules=["q_proj", "up_proj"], layers_to_transform=[1], layers_pattern="layers",
                              exclude_modules=["up_proj"])),
    "saved": ("untied", dict(target_modules=["v_proj"], modules_to_save=["embed_tokens", "lm_head", "norm"])),
    "saved_tied": ("tied", dict(target_modules=["v_proj"], modules_to_save=["embed_tokens"], ensure_weight_tying=True)),
    "embedding": ("untied", dict(target_modules=["embed_tokens", "v_proj", "lm_head"])),
    "embedding_tied": ("tied", dict(target_modules=["embed_tokens", "v_proj"], ensure_weight_tying=True)),
}


def tokens():
    ids = [(i * 7 + (i * i) % 11 + 3) % VOCAB for i in range(ROWS * LENGTH)]
    return torch.tensor(ids).view(ROWS, LENGTH)


def base(tied):
    config = Qwen2Config(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, intermediate_size=24,
                         vocab_size=VOCAB, tie_word_embeddings=tied, max_position_embeddings=64, initializer_range=0.2)
    torch.manual_seed(2)
    model = Qwen2ForCausalLM(config).float()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.copy_(torch.randn(parameter.shape) * 0.1)
    return model


def tidy(folder, keep):
    for name in os.listdir(folder):
        if name not in keep:
            os.remove(os.path.join(folder, name))


def save_adapter(model, folder):
    model.save_pretrained(folder)
    tidy(folder, ("adapter_config.json", "adapter_model.safetensors"))
    path = os.path.join(folder, "adapter_config.json")
    config = json.load(open(path))
    config["base_model_name_or_path"] = "base"
    for key in ("target_modules", "exclude_modules"):
        if isinstance(config[key], list):
            config[key] = sorted(config[key])
    json.dump(config, open(path, "w"), indent=1, sort_keys=True)
    # The base's own tables, which peft writes beside an adapter on them, say nothing new; two cases keep theirs.
    path = os.path.join(folder, "adapter_model.safetensors")
    save_file({k: v.contiguous() for k, v in load_file(path).items()}, path, {"format": "pt"})


def loss_of(model):
    # the engine's own division: the sum over targets by their number
    return model(tokens(), labels=tokens()).loss


def make():
    shutil.rmtree(HERE, ignore_errors=True)
    for tied in ("tied", "untied"):
        folder = os.path.join(HERE, "base_" + tied)
        base(tied == "tied").save_pretrained(folder)
        tidy(folder, ("config.json", "model.safetensors"))
    for name, (kind, options) in CASES.items():
        model = AutoModelForCausalLM.from_pretrained(os.path.join(HERE, "base_" + kind), dtype=torch.float32)
        model = get_peft_model(model, LoraConfig(r=2, lora_alpha=6, task_type="CAUSAL_LM", **options))
        generator = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn(parameter.shape, generator=generator) * (0.1 if "lora_" in key else 0.02))
        folder = os.path.join(HERE, name)
        save_adapter(model, folder)
        with torch.no_grad():
            out = {"logits": model.eval()(tokens()).logits.contiguous()}
        model.train()
        losses, optimizer = [], torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=LR)
        for _ in range(STEPS):
            loss = loss_of(model)
            losses.append(loss.item())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            losses.append(loss_of(model).item())
        out["losses"] = torch.tensor(losses, dtype=torch.float64)
        save_file(out, os.path.join(folder, "values.safetensors"))
        trained = os.path.join(folder, "trained")
        save_adapter(model, trained)
        os.remove(os.path.join(trained, "adapter_config.json"))
        again = PeftModel.from_pretrained(
            AutoModelForCausalLM.from_pretrained(os.path.join(HERE, "base_" + kind), dtype=torch.float32), folder).eval()
        with torch.no_grad():
            print(name, "read again:", (again(tokens()).logits - out["logits"]).abs().max().item(), losses)


def check(case, adapter):
    kind, _ = CASES[case]
    model = AutoModelForCausalLM.from_pretrained(os.path.join(HERE, "base_" + kind), dtype=torch.float32)
    model = PeftModel.from_pretrained(model, adapter).eval()
    with torch.no_grad():
        got = loss_of(model).item()
    print(case, got - load_file(os.path.join(HERE, case, "values.safetensors"))["losses"][STEPS].item())


if __name__ == "__main__":
    make() if sys.argv[1] == "make" else check(*sys.argv[2:])
