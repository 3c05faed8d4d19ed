#!/usr/bin/env python3
"""Makes tiny_dpo.json and tiny_dpo_lora.safetensors beside this file; README.md has the formats.

Needs trl.txt beside requirements.txt.
Fifty steps of TRL's DPOTrainer on tiny-llama, with its own reference model or, with LoRA, the adapters switched off, by
both losses. Texts are names of tokens, so that TRL tokenises them as it does any. Deterministic: one thread, fixed seeds.
"""
import json
import pathlib
import tempfile

import torch
from datasets import Dataset
from peft import LoraConfig
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.utils.data import SequentialSampler
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer

HERE = pathlib.Path(__file__).resolve().parent
PAIRS, STEPS, EOS = 2, 50, 2
LORA = dict(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], lora_dropout=0.0, bias="none")
METRICS = ["rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins", "logps/chosen",
           "logps/rejected"]


def fresh():
    return LlamaForCausalLM.from_pretrained(HERE / "tiny-llama", attn_implementation="eager", dtype=torch.float32)


def tokenizer():
    t = Tokenizer(models.WordLevel({f"<{i}>": i for i in range(256)}, unk_token="<0>"))
    t.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=t, eos_token="<2>", pad_token="<0>", unk_token="<0>")


def make_pairs():
    """Answers that are preferred go on as 5x + 17 does, the others at random; of unlike lengths."""
    g = torch.Generator().manual_seed(23)
    draw = lambda low, high: int(torch.randint(low, high, (1,), generator=g))
    out = []
    for _ in range(PAIRS * STEPS):
        prompt = [draw(3, 256) for _ in range(draw(3, 9))]
        chosen = [(prompt[-1] * 5 + 17) % 61 + 3]
        for _ in range(draw(1, 8)):
            chosen.append((chosen[-1] * 5 + 17) % 61 + 3)
        out.append((prompt, chosen, [draw(3, 256) for _ in range(draw(2, 10))]))
    return out


class Recorder(DPOTrainer):
    def _get_train_sampler(self, *args, **kwargs):
        return SequentialSampler(self.train_dataset)

    def _compute_loss(self, model, inputs, return_outputs):
        loss = super()._compute_loss(model, inputs, return_outputs)
        self.losses.append(loss.item())
        for name in METRICS:
            self.means[name].append(self._metrics["train"][name][-1])
        return loss


def train(pairs, name, lora, rate, beta):
    text = lambda ids: " ".join(f"<{i}>" for i in ids)
    data = Dataset.from_list([dict(prompt=text(p), chosen=" " + text(c + [EOS]), rejected=" " + text(r + [EOS]))
                              for p, c, r in pairs])
    with tempfile.TemporaryDirectory() as folder:
        args = DPOConfig(
            output_dir=folder, per_device_train_batch_size=PAIRS, max_steps=STEPS, learning_rate=rate,
            lr_scheduler_type="constant", warmup_steps=0, weight_decay=0.0, adam_beta1=0.9, adam_beta2=0.95,
            adam_epsilon=1e-8, max_grad_norm=1.0, beta=beta, loss_type=[name], report_to=[], save_strategy="no",
            bf16=False, fp16=False, use_cpu=True, gradient_checkpointing=False, disable_tqdm=True, seed=31,
            optim="adamw_torch", disable_dropout=True)
        torch.manual_seed(29)
        trainer = Recorder(model=fresh(), args=args, train_dataset=data, processing_class=tokenizer(),
                           peft_config=LoraConfig(**LORA) if lora else None)
        trainer.losses, trainer.means = [], {name: [] for name in METRICS}
        start = {n.replace("base_model.model.", "").replace(".default", ""): p.detach().clone()
                 for n, p in trainer.model.named_parameters() if "lora_A" in n}
        trainer.train()
    run = dict(loss="IPO" if name == "ipo" else "Sigmoid", lora=lora, learning_rate=rate, beta=beta,
               losses=trainer.losses, **trainer.means)
    return run, start


if __name__ == "__main__":
    torch.set_num_threads(1)
    pairs = make_pairs()
    runs, factors = [], None
    for name, lora, rate, beta in [("sigmoid", False, 1e-3, 0.1), ("ipo", False, 1e-3, 0.1),
                                   ("sigmoid", True, 1e-2, 0.3)]:
        run, start = train(pairs, name, lora, rate, beta)
        runs.append(run)
        factors = start or factors
    out = dict(pairs=PAIRS, steps=STEPS, eos=EOS, beta1=0.9, beta2=0.95, epsilon=1e-8, clip_norm=1.0, rank=LORA["r"],
               alpha=LORA["lora_alpha"], prompts=[p for p, _, _ in pairs], chosen=[c for _, c, _ in pairs],
               rejected=[r for _, _, r in pairs], runs=runs)
    (HERE / "tiny_dpo.json").write_text(json.dumps(out) + "\n")
    save_file({k: v.contiguous() for k, v in factors.items()}, HERE / "tiny_dpo_lora.safetensors")
