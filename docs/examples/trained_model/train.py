"""Trains a small Llama-shaped model that can be good or bad at a made task, with its tokenizer and lm-eval's tasks.

    python docs/examples/trained_model/train.py OUT [--seed 0] [--seconds 120 | --steps N]

Needs torch, transformers and nothing from a network. Writes

    OUT/model               the trained model
    OUT/model-rounded-4bit  its linear layers' weights rounded to 4 bits and stored as float32, for any engine
    OUT/model-fewer-layers  without its last layer
    OUT/model-short-context with fewer positions: of a longer prompt it reads the end
    OUT/tasks               tasks for lm-eval: made_choose, made_answer, made_text, with data that was not trained on
    OUT/about.json          steps, losses and seconds

The same seed and steps give the same data everywhere, and the same weights on the same machine. By default the number
of steps is fixed; `--seconds` ends earlier, wherever the learning rate then stands.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from data import KINDS, PLAIN, World, write_tasks
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

STEPS, BATCH, RATE, WARM_UP = 1050, 12, 4e-3, 50
#: What all but the words of answers count in the loss: they are drawn anew for each text, or easy.
OTHER_WEIGHT = 0.1
#: Positions of the copy with a short context: fewer than a question has tokens.
SHORT = 36
#: A conversation is a text: questions as users write them, answers with the stop that the tasks cut.
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ ' ' if not loop.first }}{{ message['content'] }}"
    "{{ ' done' if message['role'] == 'assistant' }}{% endfor %}"
)


def make_tokenizer(vocabulary: list[str]) -> PreTrainedTokenizerFast:
    """One token a word, the space before it included, as in most models."""
    special = ["<unk>", "<s>", "</s>"]
    words = [*special, *(f"▁{word}" for word in vocabulary)]
    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    made.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A $B", [("<s>", 1)])
    made.add_special_tokens([AddedToken(one, special=True, normalized=False) for one in special])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="</s>",
        model_max_length=256,
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def make_model(vocabulary: int) -> LlamaForCausalLM:
    """Small, with sizes in 64s: the CPU builds and kernels of all engines take them, and 4-bit blocks fit."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=-(-vocabulary // 64) * 64,
            hidden_size=64,
            intermediate_size=64,
            num_hidden_layers=3,
            num_attention_heads=1,
            num_key_value_heads=1,
            head_dim=64,
            max_position_embeddings=256,
            initializer_range=0.08,
            tie_word_embeddings=True,
            bos_token_id=1,
            eos_token_id=2,
        )
    )


def batches(world: World, tokenizer: PreTrainedTokenizerFast, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of equally long texts without end, and how much each token counts in the loss."""
    chance = random.Random(f"{seed} training")
    given = torch.tensor(tokenizer(" ".join((*KINDS, *PLAIN)))["input_ids"])
    ask = tokenizer.convert_tokens_to_ids("▁?")
    while True:
        tokens = torch.tensor(tokenizer([world.text(chance) + "</s>" for _ in range(BATCH)])["input_ids"])
        answered = ((tokens == ask).cumsum(1) > 0) & ~torch.isin(tokens, given)
        yield tokens, torch.where(answered, 1.0, OTHER_WEIGHT)


def train(
    model: LlamaForCausalLM, data: Iterator[tuple[torch.Tensor, torch.Tensor]], steps: int, seconds: float
) -> dict[str, Any]:
    """Train with AdamW, a short warm-up and a cosine to zero; says what it took."""
    start, cpu, losses = time.monotonic(), time.process_time(), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    for step in range(steps):
        if time.monotonic() - start > seconds:
            break
        rate = RATE * min(1.0, (step + 1) / WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = rate
        tokens, weights = next(data)
        logits = model(tokens).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none")
        loss = (loss * weights[:, 1:]).sum() / weights[:, 1:].sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        if len(losses) % 100 == 0:
            print(f"step {len(losses)} of {steps}: loss {losses[-1]:.3f}, {time.monotonic() - start:.0f} s", flush=True)
    spent = {"wall_s": time.monotonic() - start, "cpu_s": time.process_time() - cpu}
    return {"steps": len(losses), "planned_steps": steps, "texts": BATCH * len(losses), "loss": losses[-1], **spent}


def rounded(model: LlamaForCausalLM, group: int = 64) -> LlamaForCausalLM:
    """A copy whose linear layers have weights of 15 values, one scale for each group of `group` weights of a row."""
    worse = copy.deepcopy(model)
    for layer in worse.model.layers.modules():
        if isinstance(layer, torch.nn.Linear):
            groups = layer.weight.data.reshape(-1, group)
            scale = groups.abs().amax(1, keepdim=True) / 7
            layer.weight.data = ((groups / scale).round() * scale).reshape(layer.weight.shape)
    worse.config.weights_rounded_to_bits = 4
    return worse


def shallower(model: LlamaForCausalLM) -> LlamaForCausalLM:
    """A copy without the last layer."""
    worse = copy.deepcopy(model)
    worse.model.layers = worse.model.layers[:-1]
    worse.config.num_hidden_layers -= 1
    worse.config.layer_types = None
    return worse


def shorter(model: LlamaForCausalLM) -> LlamaForCausalLM:
    """A copy that states fewer positions."""
    worse = copy.deepcopy(model)
    worse.config.max_position_embeddings = SHORT
    return worse


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seconds", type=float, default=math.inf, help="end by then")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--items", type=int, default=500, help="of each task")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    world = World(args.seed)
    tokenizer = make_tokenizer(world.vocabulary)
    model = make_model(len(tokenizer))
    write_tasks(world, args.seed, args.out / "tasks", args.items)
    print(f"training: {args.steps} steps on {torch.get_num_threads()} threads", flush=True)
    about = train(model, batches(world, tokenizer, args.seed), args.steps, args.seconds)
    # llem and others tell models apart by config.json and the sizes of files: it says what the sizes do not show.
    model.config.trained = {"seed": args.seed, "steps": about["steps"]}
    copies = {
        "model": model,
        "model-rounded-4bit": rounded(model),
        "model-fewer-layers": shallower(model),
        "model-short-context": shorter(model),
    }
    for name, one in copies.items():
        one.save_pretrained(args.out / name)
        tokenizer.save_pretrained(args.out / name)
    parameters = sum(one.numel() for one in model.parameters())
    (args.out / "about.json").write_text(
        json.dumps({"seed": args.seed, "parameters": parameters, **about}, indent=2) + "\n"
    )
    print(f"{parameters:,} parameters, {about['steps']} steps, {about['wall_s']:.0f} s: {args.out}")


if __name__ == "__main__":
    main()
