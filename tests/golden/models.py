"""Reference values for tests/engine/layers from transformers and peft, on weights that a formula gives.

    HF_HUB_OFFLINE=1 python tests/golden/models.py        writes tests/golden/models/*.json

Weights, tokens and projection signs come from the engine's counter-based generator (engine/tensor/counter_random.h), so that
only results are stored: the loss, some rows of logits, and for each gradient its norm with its sums under eight random signs.
The root mean square of eight differences of such sums estimates the norm of the gradients' difference.
"""

import json
import pathlib

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import (CohereConfig, CohereForCausalLM, Gemma2Config, Gemma2ForCausalLM, Gemma3ForCausalLM, Gemma3TextConfig,
                          GraniteConfig, GraniteForCausalLM, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM,
                          Olmo2Config, Olmo2ForCausalLM, Phi3Config, Phi3ForCausalLM, Qwen2Config, Qwen2ForCausalLM,
                          Qwen3Config, Qwen3ForCausalLM, SmolLM3Config, SmolLM3ForCausalLM)

OUT = pathlib.Path(__file__).parent / "models"
SEED, ROWS, TOKENS, SIGNS = 20261121, 2, 19, 8
MASK64 = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


def mix64(x):
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def bits(name, count):
    h = 0xCBF29CE484222325
    for c in name.encode():
        h = ((h ^ c) * 0x100000001B3) & MASK64
    with np.errstate(over="ignore"):
        key = mix64(np.uint64((SEED + GOLDEN) & MASK64)) ^ np.uint64(h)
        return mix64(key + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(GOLDEN))


def uniform(name, shape, scale, centre=0.0):
    u = (bits(name, int(np.prod(shape))) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return torch.from_numpy((centre + scale * (2 * u - 1)).astype(np.float32).reshape(shape))


def weight(name, shape):
    """Norms around 1, the rest around 0 and large enough that every part of the model matters."""
    return uniform(name, shape, 0.3, 1.0) if name.endswith("norm.weight") else uniform(name, shape, 0.15)


def data(vocab):
    tokens = torch.from_numpy((bits("tokens", ROWS * TOKENS) % np.uint64(vocab)).astype(np.int64)).view(ROWS, TOKENS)
    targets = torch.full_like(tokens, -100)
    targets[:, :-1] = tokens[:, 1:]
    targets[0, :5] = -100
    return tokens, targets


def digest(name, grad):
    g = grad.detach().double().flatten().numpy()
    sums = []
    for k in range(SIGNS):
        signs = (bits(f"{name}#{k}", g.size) >> np.uint64(63)).astype(np.float64) * 2 - 1
        sums.append(float(np.dot(signs, g)))
    return {"norm": float(np.linalg.norm(g)), "sums": sums}


def run(model, names):
    model.train()
    tokens, targets = data(model.config.vocab_size)
    logits = model(input_ids=tokens).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
    loss.backward()
    grads = {names(n): digest(names(n), p.grad) for n, p in model.named_parameters() if p.grad is not None}
    rows = {f"{b},{t}": logits[b, t].tolist() for b in range(ROWS) for t in (0, 7, 18)}
    return {"loss": loss.item(), "logits": rows, "grads": grads}


def build(cls, config):
    model = cls(config)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(weight(name, p.shape))
    return model


CASES = {
    "llama_untied": (LlamaForCausalLM, LlamaConfig(
        hidden_size=48, intermediate_size=104, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=2,
        vocab_size=131, tie_word_embeddings=False, rms_norm_eps=1e-5)),
    "llama_tied": (LlamaForCausalLM, LlamaConfig(
        hidden_size=40, intermediate_size=72, num_hidden_layers=3, num_attention_heads=5, num_key_value_heads=1,
        head_dim=16, vocab_size=97, tie_word_embeddings=True, attention_bias=True, mlp_bias=True,
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0})),
    "qwen3_untied": (Qwen3ForCausalLM, Qwen3Config(
        hidden_size=48, intermediate_size=88, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=24, vocab_size=131, tie_word_embeddings=False)),
    "qwen3_tied": (Qwen3ForCausalLM, Qwen3Config(
        hidden_size=36, intermediate_size=68, num_hidden_layers=3, num_attention_heads=3, num_key_value_heads=1,
        head_dim=12, vocab_size=101, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 1000000.0})),
    # Windows shorter than a row, and rotary scalings whose original lengths are.
    "qwen2_untied": (Qwen2ForCausalLM, Qwen2Config(
        hidden_size=48, intermediate_size=88, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=131, tie_word_embeddings=False, max_position_embeddings=32,
        rope_parameters={"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 8})),
    "qwen2_tied": (Qwen2ForCausalLM, Qwen2Config(
        hidden_size=32, intermediate_size=56, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=1,
        vocab_size=97, tie_word_embeddings=True, use_sliding_window=True, sliding_window=5, max_window_layers=1,
        max_position_embeddings=12,
        rope_parameters={"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0})),
    "mistral_untied": (MistralForCausalLM, MistralConfig(
        hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
        vocab_size=131, tie_word_embeddings=False, sliding_window=6)),
    "mistral_tied": (MistralForCausalLM, MistralConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=97, tie_word_embeddings=True, sliding_window=None,
        rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.5})),
    "llama3_untied": (LlamaForCausalLM, LlamaConfig(
        hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=1,
        vocab_size=131, tie_word_embeddings=False, attention_bias=True, max_position_embeddings=128,
        rope_parameters={"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
                         "high_freq_factor": 4.0, "original_max_position_embeddings": 16})),
    "llama_yarn_tied": (LlamaForCausalLM, LlamaConfig(
        hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=1,
        vocab_size=131, tie_word_embeddings=True, mlp_bias=True, max_position_embeddings=256,
        rope_parameters={"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 64,
                         "beta_fast": 4.0, "beta_slow": 1.0, "mscale": 0.9, "mscale_all_dim": 0.3, "truncate": False})),
    "granite_untied": (GraniteForCausalLM, GraniteConfig(
        hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=2,
        vocab_size=131, tie_word_embeddings=False, embedding_multiplier=3.0, logits_scaling=2.5, residual_multiplier=0.4,
        attention_multiplier=0.2)),
    "granite_tied": (GraniteForCausalLM, GraniteConfig(
        hidden_size=32, intermediate_size=56, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=1,
        vocab_size=97, tie_word_embeddings=True, attention_bias=True, mlp_bias=True, embedding_multiplier=1.7,
        logits_scaling=0.6, residual_multiplier=0.22, attention_multiplier=1.0)),
    "olmo2_untied": (Olmo2ForCausalLM, Olmo2Config(
        hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=131, tie_word_embeddings=False)),
    "olmo2_tied": (Olmo2ForCausalLM, Olmo2Config(
        hidden_size=32, intermediate_size=56, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=1,
        vocab_size=97, tie_word_embeddings=True, attention_bias=True, rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0})),
    "smollm3_tied": (SmolLM3ForCausalLM, SmolLM3Config(
        hidden_size=48, intermediate_size=80, num_hidden_layers=4, num_attention_heads=6, num_key_value_heads=2,
        vocab_size=131, pad_token_id=None)),
    # No biases on keys: without positions they shift all scores of a query alike, and their gradient is 0.
    "smollm3_untied": (SmolLM3ForCausalLM, SmolLM3Config(
        hidden_size=32, intermediate_size=56, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=4,
        vocab_size=97, pad_token_id=None, tie_word_embeddings=False, no_rope_layers=[0, 1, 0], use_sliding_window=True,
        sliding_window=6, mlp_bias=True)),
    # Heads of 24, of which 12 features are rotated; rows longer than the original length, and shorter.
    "phi3_untied": (Phi3ForCausalLM, Phi3Config(
        hidden_size=96, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=131, pad_token_id=None, tie_word_embeddings=False, sliding_window=6, max_position_embeddings=64,
        original_max_position_embeddings=8,
        rope_parameters={"rope_type": "longrope", "rope_theta": 10000.0, "partial_rotary_factor": 0.5,
                         "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5], "long_factor": [1.0, 1.5, 2.5, 4.0, 6.0, 8.0]})),
    "phi3_tied": (Phi3ForCausalLM, Phi3Config(
        hidden_size=32, intermediate_size=56, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=4,
        vocab_size=97, pad_token_id=None, tie_word_embeddings=True, max_position_embeddings=64,
        original_max_position_embeddings=32,
        rope_parameters={"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0, 1.2, 1.5, 2.0],
                         "long_factor": [1.0, 2.0, 4.0, 8.0]})),
    "cohere_tied": (CohereForCausalLM, CohereConfig(
        hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=131, pad_token_id=None, logit_scale=0.5)),
    "cohere_untied": (CohereForCausalLM, CohereConfig(
        hidden_size=32, intermediate_size=56, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=1,
        vocab_size=97, pad_token_id=None, tie_word_embeddings=False, use_qk_norm=True, attention_bias=True,
        rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0})),
    # Scores and logits large enough to be bent by their caps.
    "gemma2_tied": (Gemma2ForCausalLM, Gemma2Config(
        hidden_size=48, intermediate_size=80, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
        vocab_size=131, pad_token_id=None, sliding_window=6, query_pre_attn_scalar=10, attn_logit_softcapping=3.0,
        final_logit_softcapping=4.0)),
    "gemma2_untied": (Gemma2ForCausalLM, Gemma2Config(
        hidden_size=32, intermediate_size=56, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=1, head_dim=12,
        vocab_size=97, pad_token_id=None, tie_word_embeddings=False, sliding_window=4, query_pre_attn_scalar=16,
        attn_logit_softcapping=50.0, final_logit_softcapping=30.0, attention_bias=True,
        layer_types=["full_attention", "sliding_attention"])),
    "gemma3_tied": (Gemma3ForCausalLM, Gemma3TextConfig(
        hidden_size=48, intermediate_size=80, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
        vocab_size=131, pad_token_id=None, sliding_window=6, query_pre_attn_scalar=16,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"])),
    "gemma3_untied": (Gemma3ForCausalLM, Gemma3TextConfig(
        hidden_size=32, intermediate_size=56, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=1, head_dim=12,
        vocab_size=97, pad_token_id=None, tie_word_embeddings=False, sliding_window=5, query_pre_attn_scalar=20,
        final_logit_softcapping=6.0, layer_types=["full_attention", "sliding_attention"],
        rope_parameters={"full_attention": {"rope_type": "linear", "rope_theta": 1000000.0, "factor": 8.0},
                         "sliding_attention": {"rope_type": "default", "rope_theta": 5000.0}})),
}


def config_of(cls, config):
    keys = ("model_type hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads head_dim "
            "vocab_size tie_word_embeddings rms_norm_eps attention_bias mlp_bias rope_parameters hidden_act "
            "max_position_embeddings use_sliding_window sliding_window max_window_layers layer_types embedding_multiplier "
            "logits_scaling residual_multiplier attention_multiplier no_rope_layers "
            "original_max_position_embeddings layer_norm_eps logit_scale use_qk_norm hidden_activation query_pre_attn_scalar "
            "attn_logit_softcapping final_logit_softcapping")
    stated = {k: getattr(config, k) for k in keys.split() if getattr(config, k, None) is not None}
    return {"architectures": [cls.__name__], **stated}


def lora_case(cls, config, rslora):
    model = build(cls, config)
    model = get_peft_model(model, LoraConfig(r=4, lora_alpha=10, target_modules="all-linear", lora_dropout=0.0,
                                             use_rslora=rslora, task_type="CAUSAL_LM"))

    def short(name):
        return name.replace("base_model.model.", "").replace(".default", "")

    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_" in name:
                p.copy_(uniform(short(name), p.shape, 0.2))
    return run(model, short)


def main():
    torch.manual_seed(0)
    OUT.mkdir(exist_ok=True)
    for name, (cls, config) in CASES.items():
        config._attn_implementation = "eager"
        stored = {"config": config_of(cls, config), "seed": SEED, "rows": ROWS, "tokens": TOKENS, "signs": SIGNS}
        stored["full"] = run(build(cls, config), lambda n: n)
        stored["lora"] = lora_case(cls, config, rslora=name.endswith("_tied"))
        (OUT / f"{name}.json").write_text(json.dumps(stored, indent=None, separators=(",", ":")) + "\n")
        print(name, stored["full"]["loss"], stored["lora"]["loss"], len(stored["lora"]["grads"]))


if __name__ == "__main__":
    main()
