"""Writes tests/golden/template/masks.jsonl: which tokens transformers' assistant mask marks under a template with
{% generation %} blocks, with the tokenizer of recipes/demo/model.

  HF_HUB_OFFLINE=1 python tests/golden/template_masks.py
"""

import json
import pathlib

from transformers import PreTrainedTokenizerFast

ROOT = pathlib.Path(__file__).parents[2]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}{% generation %}"
    "{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n{% endif %}{{ m.content or '' }}"
    "{% for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}<|im_end|>"
    "{% endgeneration %}{% else %}{{ m.content }}<|im_end|>{% endif %}\n{% endfor %}"
)
# the block begins in the middle of a word: its first token is marked as a whole
MIDWORD = "{% for m in messages %}{% if m.role == 'assistant' %}ans{% generation %}wer {{ m.content }}{% endgeneration %}ing{% else %}{{ m.content }}\n{% endif %}{% endfor %}"
TALKS = [
    [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": " Hello wörld 🙂 "}],
    [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}, {"role": "assistant", "content": "\n\nd"}],
    [
        {"role": "user", "content": "sum?"},
        {"role": "assistant", "content": None, "reasoning_content": "use add", "tool_calls": [{"function": {"name": "add", "arguments": {"a": 1, "b": [2, "é"]}}}]},
        {"role": "tool", "content": "3"},
        {"role": "assistant", "content": "It is 3."},
    ],
]


def main():
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(ROOT / "recipes/demo/model/tokenizer.json"))
    with open(ROOT / "tests/golden/template/masks.jsonl", "w") as file:
        for template in (TEMPLATE, MIDWORD):
            for talk in TALKS[: 3 if template is TEMPLATE else 1]:
                made = tokenizer.apply_chat_template(talk, chat_template=template, return_dict=True, return_assistant_tokens_mask=True)
                row = {"template": template, "messages": talk, "ids": made["input_ids"], "mask": made["assistant_masks"]}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
