"""Reference values for models with experts (tests/engine/layers/experts_test.cpp), from transformers and peft.

    HF_HUB_OFFLINE=1 python tests/golden/experts.py        writes tests/golden/models/{mixtral,qwen3_moe}_*.json

As models.py, but for weights that transformers 5 keeps as one tensor for all experts of a layer: here they have the names and
shapes that they have on disk, an expert's matrix each. `full` is transformers' own loss, with the auxiliary one where the
config has output_router_logits, times the number of trained tokens; `lora` is of an adapter on attention and experts, written
under the names that PEFT's adapters of single matrices have and loaded by PEFT, which converts it.
"""

import json
import pathlib
import re
import tempfile

import torch
from models import OUT, ROWS, SEED, SIGNS, TOKENS, config_of, data, digest, uniform, weight
from peft import PeftModel
from safetensors.torch import save_file
from transformers import MixtralConfig, MixtralForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

CASES = {
    "mixtral_untied": (MixtralForCausalLM, MixtralConfig(
        hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=97, num_local_experts=4, num_experts_per_tok=2, output_router_logits=True, router_aux_loss_coef=0.5)),
    "mixtral_tied": (MixtralForCausalLM, MixtralConfig(
        hidden_size=24, intermediate_size=32, num_hidden_layers=3, num_attention_heads=3, num_key_value_heads=1, head_dim=16,
        vocab_size=83, tie_word_embeddings=True, sliding_window=6, num_local_experts=5, num_experts_per_tok=3)),
    "qwen3_moe_untied": (Qwen3MoeForCausalLM, Qwen3MoeConfig(
        hidden_size=32, intermediate_size=48, moe_intermediate_size=16, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, head_dim=12, vocab_size=97, num_experts=6, num_experts_per_tok=3, norm_topk_prob=True,
        output_router_logits=True, router_aux_loss_coef=0.3)),
    "qwen3_moe_tied": (Qwen3MoeForCausalLM, Qwen3MoeConfig(
        hidden_size=24, intermediate_size=40, moe_intermediate_size=20, num_hidden_layers=4, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, vocab_size=83, tie_word_embeddings=True, num_experts=4, num_experts_per_tok=2,
        norm_topk_prob=False, decoder_sparse_step=2, mlp_only_layers=[3], use_sliding_window=True, sliding_window=7,
        attention_bias=True)),
}
SPELLED = {"mixtral": ("block_sparse_moe", "w1", "w3", "w2"), "qwen3_moe": ("mlp", "gate_proj", "up_proj", "down_proj")}
KEYS = ("num_local_experts num_experts_per_tok output_router_logits router_aux_loss_coef moe_intermediate_size norm_topk_prob "
        "decoder_sparse_step mlp_only_layers use_sliding_window sliding_window").split()


def pieces(kind, name, tensor):
    """What is on disk of a parameter: (name, view)."""
    block, gate, up, down = SPELLED[kind]
    found = re.fullmatch(r"(.*layers\.\d+)\.mlp\.(gate\.weight|experts\.gate_up_proj|experts\.down_proj)", name)
    if not found:
        return [(name, tensor)]
    layer, part = f"{found[1]}.{block}", found[2]
    if part == "gate.weight":
        return [(f"{layer}.gate.weight", tensor)]
    made = []
    for e in range(tensor.shape[0]):
        if part.endswith("down_proj"):
            made.append((f"{layer}.experts.{e}.{down}.weight", tensor[e]))
        else:
            halves = tensor[e].chunk(2, 0)
            made += [(f"{layer}.experts.{e}.{gate}.weight", halves[0]), (f"{layer}.experts.{e}.{up}.weight", halves[1])]
    return made


def build(cls, config):
    model = cls(config)
    with torch.no_grad():
        for name, p in model.named_parameters():
            for on_disk, view in pieces(config.model_type, name, p):
                view.copy_(weight(on_disk, view.shape))
    return model


def run(model, config, grads):
    model.train()
    tokens, targets = data(config.vocab_size)
    labels = torch.full_like(tokens, -100)
    labels[:, 1:] = targets[:, :-1]
    made = model(input_ids=tokens, labels=labels, output_router_logits=config.output_router_logits)
    loss = made.loss * int((targets != -100).sum())
    loss.backward()
    rows = {f"{b},{t}": made.logits[b, t].tolist() for b in range(ROWS) for t in (0, 7, 18)}
    return {"loss": loss.item(), "logits": rows, "grads": {n: digest(n, g) for n, g in grads(model)}}


def full_grads(kind):
    def found(model):
        return [piece for n, p in model.named_parameters() if p.grad is not None for piece in pieces(kind, n, p.grad)]
    return found


def lora_tensors(cls, config):
    """The adapter's tensors under the names on disk, r = 4."""
    block, gate, up, down = SPELLED[config.model_type]
    linears = {}
    for name, p in cls(config).named_parameters():
        for on_disk, view in pieces(config.model_type, name, p):
            if re.search(r"self_attn\.[qkvo]_proj\.weight|\.experts\.", on_disk):
                linears[on_disk.removesuffix(".weight")] = view.shape
    return {f"{path}.lora_{side}.weight": uniform(f"{path}.lora_{side}.weight", shape, 0.2)
            for path, (rows, columns) in linears.items() for side, shape in (("A", (4, columns)), ("B", (rows, 4)))}


def lora_grads(kind):
    """PEFT's gradients, as those of single matrices."""
    block, gate, up, down = SPELLED[kind]

    def found(model):
        made = []
        for name, p in model.named_parameters():
            if p.grad is None:
                continue
            short = name.replace("base_model.model.", "").replace(".default", "")
            at = re.fullmatch(r"(.*layers\.\d+)\.mlp\.experts\.(base_layer\.)?lora_([AB])\.weight", short)
            if not at:
                made.append((short, p.grad))
                continue
            path, gate_up, side, config = f"{at[1]}.{block}.experts", bool(at[2]), at[3], model.config
            experts = getattr(config, "num_local_experts", None) or config.num_experts
            r = 8 if gate_up else 4
            for e in range(experts):
                if side == "A":
                    own = p.grad.view(experts, r, -1)[e]
                else:
                    own = p.grad.view(p.grad.shape[0], r, experts)[:, :, e]
                if not gate_up:
                    made.append((f"{path}.{e}.{down}.lora_{side}.weight", own))
                    continue
                half = own.shape[0] // 2
                first, second = (own[:4], own[4:]) if side == "A" else (own[:half, :4], own[half:, 4:])
                made += [(f"{path}.{e}.{gate}.lora_{side}.weight", first), (f"{path}.{e}.{up}.lora_{side}.weight", second)]
        return made

    return found


def lora_case(cls, config):
    """An adapter on attention alone where some layers are dense: PEFT takes their gate_proj for the experts'."""
    mixed = bool(getattr(config, "mlp_only_layers", None))
    tensors = {n: t for n, t in lora_tensors(cls, config).items() if not mixed or ".experts." not in n}
    with tempfile.TemporaryDirectory() as folder:
        save_file({"base_model.model." + n: t for n, t in tensors.items()}, f"{folder}/adapter_model.safetensors")
        targets = ["q_proj", "k_proj", "v_proj", "o_proj", *(() if mixed else SPELLED[config.model_type][1:])]
        pathlib.Path(folder, "adapter_config.json").write_text(json.dumps({
            "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 10, "lora_dropout": 0.0,
            "target_modules": targets}))
        model = PeftModel.from_pretrained(build(cls, config), folder, is_trainable=True)
    stored = run(model, config, lora_grads(config.model_type))
    missing = set(tensors) ^ set(stored["grads"])
    assert not missing, missing
    return stored | {"target_modules": targets}


def main():
    torch.manual_seed(0)
    for name, (cls, config) in CASES.items():
        config._attn_implementation = "eager"
        config._experts_implementation = "eager"
        stated = {k: getattr(config, k) for k in KEYS if getattr(config, k, None) is not None}
        stored = {"config": config_of(cls, config) | stated, "seed": SEED, "rows": ROWS, "tokens": TOKENS, "signs": SIGNS}
        if config.model_type == "qwen3_moe":
            stored["config"]["num_experts"] = config.num_experts
        stored["full"] = run(build(cls, config), config, full_grads(config.model_type))
        stored["lora"] = lora_case(cls, config)
        (OUT / f"{name}.json").write_text(json.dumps(stored, indent=None, separators=(",", ":")) + "\n")
        print(name, stored["full"]["loss"], stored["lora"]["loss"], len(stored["full"]["grads"]))


if __name__ == "__main__":
    main()
