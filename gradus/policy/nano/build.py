"""Makes an embedded policy's folder: config and tokenizer here, weights by a recipe of `gradus sft`.

A new family is a row of FAMILIES and a recipe ``sft_<family>_nano``. For countdown:

    python -m gradus.policy.nano.build countdown                    config.json and tokenizer, from the task's own texts
    gradus sft sft_countdown_nano                                   trains the weights from random ones
    python -m gradus.policy.nano.build countdown --weights RUN      copies the last checkpoint's weights into the package

The result is a Hugging Face model like any other (Llama architecture: transformers replaces the tokenizer of every
Qwen2 folder by Qwen2's own, which would split what stands between digits); nothing in the code asks whether a policy is one
of these. They are mediocre on purpose: GRPO needs something to teach.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, PreTrainedTokenizerFast

from gradus.tasks.base import load_task

FOLDER = Path(__file__).parent
TAGS = ("<think>", "</think>", "<answer>", "</answer>")
SPECIAL = ("<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
CHAT_TEMPLATE = (
    "{%- for message in messages -%}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|assistant|>' }}{%- endif -%}"
)
PIECES_OF_DIGITS = r"\d|\n|[^\d\n]{1,32}"
"""Every digit is a token of its own; what stands between digits may become one. Pieces are cut at 32 characters and at
line ends, so that no text makes merging slow."""
PIECES_OF_WORDS = r"\)\n?|\n| ?\(?[^\s()]{1,32}|\s|\("
"""A name is one token, digits and the blank before it included; so is the head of an action, and its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What an embedded policy is made from.

    Example:
        Family(task="countdown", options={"max_numbers": 3, "operators": "+-"})
    """

    task: str
    options: dict[str, Any] = field(default_factory=dict)
    num_texts: int = 2000
    """Problems whose prompt and oracle answer train the tokenizer."""
    vocabulary_size: int = 512
    hidden_size: int = 192
    intermediate_size: int = 512
    num_layers: int = 4
    num_heads: int = 6
    num_key_value_heads: int = 2
    """Fewer than heads: sampling is bound by reading keys and values."""
    context_tokens: int = 1024
    pieces: str = PIECES_OF_DIGITS
    """Pattern of what may become one token."""
    start: str | None = None
    """Recipe of a first warm-up, from whose weights the family's own goes on."""


EASY_EXERCISES = ("linear", "inequality", "expand", "quadratic", "divisor", "remainder", "slope", "midpoint")
"""Kinds whose every calculation a policy of this size can learn."""

FAMILIES = {
    "countdown": Family(task="countdown", options={"max_numbers": 3, "operators": "+-"}),
    "gsm8k": Family(
        task="gsm8k",
        options={"source": "synthetic", "max_steps": 2, "max_number": 100},
        vocabulary_size=1024,
    ),
    "economy": Family(
        task="economy",
        options={"prompt": "compact"},
        num_texts=40,
        vocabulary_size=320,
        hidden_size=128,
        intermediate_size=384,
        num_heads=4,
        context_tokens=256,
    ),
    "planning": Family(
        task="planning",
        options={"preset": "nano", "prompt": "brief", "demonstrations": "worked"},
        vocabulary_size=704,
        hidden_size=128,
        intermediate_size=384,
        num_heads=4,
        context_tokens=256,
        pieces=PIECES_OF_WORDS,
        start="sft_planning_nano_start",
    ),
    "math": Family(task="math", options={"source": "generate", "kinds": EASY_EXERCISES, "max_number": 60}),
}
"""By name: the part after ``nano/`` of the model's address, and the name of the folder and of the warm-up recipe."""


def build(name: str, folder: Path) -> None:
    """Writes config and tokenizer of family ``name`` into ``folder``; the same bytes every time."""
    family = FAMILIES[name]
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer(_texts(family), family.vocabulary_size, family.pieces)
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=family.hidden_size,
        intermediate_size=family.intermediate_size,
        num_hidden_layers=family.num_layers,
        num_attention_heads=family.num_heads,
        num_key_value_heads=family.num_key_value_heads,
        max_position_embeddings=family.context_tokens,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=SPECIAL.index("<|end|>"),
        pad_token_id=SPECIAL.index("<|pad|>"),
        architectures=["LlamaForCausalLM"],
        dtype="float32",
        initializer_range=0.06,  # near 1 / sqrt(width); the usual 0.02 costs a hundred steps at this size
    )
    content = {key: value for key, value in config.to_dict().items() if key != "transformers_version"}
    (folder / "config.json").write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def train_tokenizer(texts: Iterator[str], vocabulary_size: int, pieces: str) -> PreTrainedTokenizerFast:
    """Byte-pair tokenizer whose tokens lie within what the pattern ``pieces`` finds, one piece after the other."""
    tokenizer = Tokenizer(models.BPE())
    cut = pre_tokenizers.Split(Regex(pieces), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size - len(TAGS),
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    pieces_without_tags = (_without_tags(text) for text in texts)
    tokenizer.train_from_iterator(pieces_without_tags, trainer)
    tokenizer.add_tokens(list(TAGS))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|end|>",
        pad_token="<|pad|>",
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def install_weights(name: str, run: Path) -> None:
    """Copies the newest checkpoint's weights of a `gradus sft` run into the package, with what made them: on the same
    kind of processor, versions and threads the recipe gives the same bits again."""
    from gradus.rundir import RunDirectory, read_json
    from gradus.train.checkpoint import model_folder, steps

    directory = RunDirectory.open(run)
    source = model_folder(directory, steps(directory)[-1])
    weights = FOLDER / name / "model.safetensors"
    shutil.copyfile(source / "model.safetensors", weights)
    manifest = read_json(source.parent / "MANIFEST.json")
    made = {
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "recipe": f"sft_{name}_nano",
        "step": manifest["step"],
        "versions": manifest["versions"],
        "torch_threads": manifest["torch_threads"],
        "processor": processor(),
    }
    (FOLDER / name / "made.json").write_text(json.dumps(made, indent=2, sort_keys=True) + "\n")


def processor() -> str:
    """Model name of this machine's processor: other processors run other kernels, which round differently."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def _texts(family: Family) -> Iterator[str]:
    task = load_task(family.task, **family.options)
    for problem in task.problems("train", family.num_texts):
        yield "".join(message.content for message in problem.messages)
        yield task.demonstration(problem)


def _without_tags(text: str) -> str:
    """Tags are tokens of their own; they must not be merged with what surrounds them."""
    for tag in TAGS:
        text = text.replace(tag, "\n")
    return text


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", choices=sorted(FAMILIES))
    parser.add_argument("--weights", type=Path, metavar="RUN", help="copy the weights of this run instead")
    arguments = parser.parse_args()
    if arguments.weights:
        install_weights(arguments.family, arguments.weights)
    else:
        build(arguments.family, FOLDER / arguments.family)


if __name__ == "__main__":
    main()
