"""One GRPO step, native against TRL's GRPOTrainer: same policy, problems, scorer, dtype and threads, in one run, in turn.

    python benchmarks/grpo_step.py --threads 2 --steps 5 --write

Each trainer lives in its own process; they take their steps alternately, so noise of the machine hits both. Printed for
each shape: median seconds of a step and of its two halves, their ratio, the memory a step adds at its peak, and the share
of the machine's measured matrix-product peak that the useful work (the floating-point operations of real tokens, prompts
counted once per group) comes to. Shapes: ``short`` (the policy's own Countdown prompts, at most 96 new tokens) and
``long`` (prompts of 512 tokens, at most 24 new ones); 16 problems × 8 completions in both.

A group whose completions all got the same reward has no gradient, and gradus leaves it out of the update, TRL does not.
How many those are decides part of the ratio, so each shape is measured with two rewards: ``binary``, the recipe's (many
groups are flat when the policy knows or does not know a problem), and ``spread``, another number for every completion,
which leaves no group out: the worst case. In the long shape nobody solves anything within 24 tokens; it is measured with
``spread`` only.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

NUM_PROBLEMS, GROUP_SIZE = 16, 8
SHAPES = {"short": (None, 96), "long": (512, 24)}
"""Prompt tokens (None: as the task writes them) and limit of new tokens."""
REWARDS = ("binary", "spread")
TASK = {"max_numbers": 3, "operators": "+-", "reward": "binary", "seed": 1}
"""As in the recipe countdown_nano."""
RESULTS = Path(__file__).parent / "results"


# -- what both trainers get --------------------------------------------------------------------------------------------


def problems_of(shape: str, tokenizer: Any, count: int) -> list[Any]:
    """Countdown problems; for a long shape, digits before the question fill the prompt up."""
    from dataclasses import replace

    from gradus import Message, load_task

    wanted = SHAPES[shape][0]
    problems = list(load_task("countdown", **TASK).problems("train", count))
    if wanted is None:
        return problems

    def size(text: str) -> int:
        rendered = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
        )
        return len(tokenizer(rendered, add_special_tokens=False)["input_ids"])

    def filled(problem: Any) -> Any:
        text = problem.messages[0].content
        text = "7" * (wanted - size(text)) + text
        assert size(text) == wanted, (size(text), wanted)
        return replace(problem, messages=(Message(role="user", content=text),))

    return [filled(problem) for problem in problems]


class Rewarded:
    """Countdown, paid by the recipe's reward or by numbers in [0, 1) that do not repeat."""

    def __init__(self, reward: str) -> None:
        from gradus import load_task

        self._task = load_task("countdown", **TASK)
        self._is_spread = reward == "spread"
        self._num_scored = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def score(self, problem: Any, text: str, *, finish: Any = "stop") -> Any:
        """As `Task.score`."""
        from dataclasses import replace

        self._num_scored += 1
        score = self._task.score(problem, text, finish=finish)
        return replace(score, reward=self._num_scored * 0.618034 % 1) if self._is_spread else score


def policy_config(arguments: argparse.Namespace, folder: Path) -> Any:
    """The embedded policy, or one of another size with random weights, which never ends its answers."""
    from gradus.config import ModelConfig

    if arguments.width is None:
        return ModelConfig(path="nano/countdown", dtype=arguments.dtype, device=arguments.device)
    config = json.loads((Path("gradus/policy/nano/countdown") / "config.json").read_text())
    config |= {"hidden_size": arguments.width, "intermediate_size": 8 * arguments.width // 3}
    config |= {"num_hidden_layers": arguments.layers, "num_attention_heads": arguments.width // 64}
    config |= {"num_key_value_heads": arguments.width // 64, "head_dim": 64}
    if arguments.inner is not None:
        config |= {"intermediate_size": arguments.inner}
    if arguments.key_heads is not None:
        config |= {"num_key_value_heads": arguments.key_heads}
    if arguments.vocabulary is not None:  # the tokenizer's own tokens are the first of them; others decode to nothing
        config |= {"vocab_size": arguments.vocabulary, "tie_word_embeddings": True}
    for source in Path("gradus/policy/nano/countdown").glob("*token*"):
        (folder / source.name).write_bytes(source.read_bytes())
    template = "chat_template.jinja"
    (folder / template).write_bytes((Path("gradus/policy/nano/countdown") / template).read_bytes())
    (folder / "config.json").write_text(json.dumps(config))
    return ModelConfig(path=str(folder), init="random", dtype=arguments.dtype, device=arguments.device)


# -- the two workers ---------------------------------------------------------------------------------------------------


def serve_native(arguments: argparse.Namespace, step_done: Callable[[dict[str, Any]], None], folder: Path) -> None:
    """Takes a step whenever asked, with the code that `gradus train` runs."""
    from gradus.algo.presets import PRESETS
    from gradus.config import OptimizerConfig
    from gradus.policy.load import load_policy
    from gradus.rollout.engine import Sampling
    from gradus.rollout.local import LocalEngine
    from gradus.rollout.rollout import roll_out, sample_seeds
    from gradus.train.batch import collate
    from gradus.train.optimizer import Optimizer
    from gradus.train.update import Settings, update

    policy = load_policy(policy_config(arguments, folder))
    optimizer = Optimizer(policy, OptimizerConfig(learning_rate=1e-6))
    problems = problems_of(arguments.shape, policy.tokenizer, NUM_PROBLEMS * (arguments.steps + 2))
    tasks: Any = {"countdown": Rewarded(arguments.reward)}
    max_tokens = SHAPES[arguments.shape][1]
    step_done({"ready": True, "parameters": sum(p.numel() for p in policy.model.parameters())})
    for step in range(arguments.steps + 1):
        sys.stdin.readline()
        started = time.perf_counter()
        groups = roll_out(
            LocalEngine(policy, batch_size=128),
            tasks,
            problems[step * NUM_PROBLEMS : (step + 1) * NUM_PROBLEMS],
            prompt_tokens=policy.prompt_tokens,
            seeds=lambda problem, step=step: sample_seeds(0, 0, step, problem.id, GROUP_SIZE),
            sampling=Sampling(temperature=1.0, max_tokens=max_tokens),
            policy_step=step,
            poll=lambda: None,
        )
        sampled = time.perf_counter()
        batch = collate(groups, algorithm=PRESETS["grpo"], max_tokens=max_tokens)
        settings = Settings(
            algorithm=PRESETS["grpo"],
            temperature=1.0,
            learning_rate=1e-6,
            microbatch_tokens=arguments.native_microbatch_tokens,
            microbatch_size=None,
            seed_parts=(0, 0, step, 0),
        )
        update(policy, optimizer, batch, settings)
        finish(arguments.device)
        ended = time.perf_counter()
        completion_tokens = sum(len(c.tokens) for group in groups for c in group.completions)
        learned = [group for group in groups if group.has_signal]
        step_done(
            {
                "rollout": sampled - started,
                "update": ended - sampled,
                "completion_tokens": completion_tokens,
                "prompt_tokens": sum(len(group.prompt_tokens) for group in groups),
                "learned_tokens": sum(
                    len(group.prompt_tokens) + sum(len(c.tokens) for c in group.completions) for group in learned
                ),
                "learned_groups": len(learned),
            }
        )


def serve_trl(arguments: argparse.Namespace, step_done: Callable[[dict[str, Any]], None], folder: Path) -> None:
    """The same with TRL's trainer, at the micro-batch that serves it best, without gradient checkpointing."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    from gradus.policy.load import load_policy, resolve_address

    config = policy_config(arguments, folder)
    policy = load_policy(config)
    model: Any = policy.model
    if config.init == "pretrained":
        dtype = getattr(torch, arguments.dtype)
        model = AutoModelForCausalLM.from_pretrained(resolve_address(config.path)[0], dtype=dtype)
    else:
        model.set_attn_implementation("sdpa")
    problems = problems_of(arguments.shape, policy.tokenizer, NUM_PROBLEMS * (arguments.steps + 2))
    task = Rewarded(arguments.reward)
    by_prompt = {problem.messages[0].content: problem for problem in problems}
    rollout_seconds, num_tokens = [0.0], [0, 0]

    def reward(prompts: list[Any], completions: list[Any], **_: Any) -> list[float]:
        return [
            task.score(by_prompt[prompt[0]["content"]], completion[0]["content"]).reward
            for prompt, completion in zip(prompts, completions, strict=True)
        ]

    class Timed(GRPOTrainer):
        def _generate_and_score_completions(self, inputs: Any) -> Any:
            started = time.perf_counter()
            output = super()._generate_and_score_completions(inputs)
            rollout_seconds[0] += time.perf_counter() - started
            num_tokens[0] += int(output["completion_mask"].sum())
            num_tokens[1] += int(output["prompt_mask"].sum()) // GROUP_SIZE
            return output

    class Turns(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            sys.stdin.readline()
            rollout_seconds[0], num_tokens[0], num_tokens[1] = 0.0, 0, 0
            self.started = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            finish(arguments.device)
            total = time.perf_counter() - self.started
            step_done(
                {
                    "rollout": rollout_seconds[0],
                    "update": total - rollout_seconds[0],
                    "completion_tokens": num_tokens[0],
                    "prompt_tokens": num_tokens[1],
                    "learned_tokens": num_tokens[0] + num_tokens[1],
                    "learned_groups": NUM_PROBLEMS,
                }
            )

    micro = arguments.trl_microbatch
    trainer = Timed(
        model=model,
        reward_funcs=[reward],
        args=GRPOConfig(
            output_dir=str(folder / "trl"),
            per_device_train_batch_size=micro,
            gradient_accumulation_steps=NUM_PROBLEMS * GROUP_SIZE // micro,
            num_generations=GROUP_SIZE,
            max_completion_length=SHAPES[arguments.shape][1],
            temperature=1.0,
            top_p=1.0,
            top_k=0,
            beta=0.0,
            loss_type="grpo",
            learning_rate=1e-6,
            max_steps=arguments.steps + 1,
            bf16=False,
            gradient_checkpointing=False,
            use_cpu=arguments.device == "cpu",
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
            shuffle_dataset=False,
        ),
        train_dataset=Dataset.from_list([{"prompt": [{"role": "user", "content": prompt}]} for prompt in by_prompt]),
        processing_class=policy.tokenizer,
        callbacks=[Turns()],
    )
    step_done({"ready": True, "parameters": sum(p.numel() for p in model.parameters())})
    trainer.train()


def finish(device: str) -> None:
    """Waits until the device has done what it was given."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def device_peak(device: str) -> dict[str, int]:
    """Most memory that torch's tensors took on a GPU so far; nothing on a CPU."""
    if device != "cuda":
        return {}
    import torch

    return {"device_bytes": torch.cuda.max_memory_allocated()}


class PeakMemory(threading.Thread):
    """Highest resident memory of this process, read every 5 ms."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak_bytes = 0
        self.start()

    def run(self) -> None:
        """Reads until the process ends."""
        while True:
            self.peak_bytes = max(self.peak_bytes, resident_bytes())
            time.sleep(0.005)


def resident_bytes() -> int:
    """Memory of this process that is in RAM."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def work(arguments: argparse.Namespace) -> None:
    """Body of a worker process: JSON lines on the real stdout, everything else to stderr."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import torch

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    memory: list[Any] = []

    def step_done(fact: dict[str, Any]) -> None:
        if fact.get("ready"):
            memory.append(resident_bytes())
            memory.append(PeakMemory())
            fact["resident_bytes"] = memory[0]
        else:
            fact |= {"peak_bytes": memory[1].peak_bytes, "added_bytes": memory[1].peak_bytes - memory[0]}
            fact |= device_peak(arguments.device)
        channel.write(json.dumps(fact) + "\n")
        channel.flush()

    with tempfile.TemporaryDirectory() as folder:
        {"native": serve_native, "trl": serve_trl}[arguments.worker](arguments, step_done, Path(folder))


# -- the parent --------------------------------------------------------------------------------------------------------


def matrix_peak(threads: int, dtype: str, device: str = "cpu") -> float:
    """Floating-point operations per second of a square matrix product (1,536 wide; 8,192 on a GPU), best of 5."""
    import torch

    torch.set_num_threads(threads)
    size = 1536 if device == "cpu" else 8192
    a = torch.randn(size, size, dtype=getattr(torch, dtype), device=device)

    def product() -> None:
        a @ a
        finish(device)

    best = min(_timed(product) for _ in range(6))
    return 2 * size**3 / best


def _timed(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def measure(arguments: argparse.Namespace, shape: str, reward: str) -> dict[str, Any]:
    """Medians of both trainers on one shape with one reward; the first step of each warms up and does not count."""
    workers = {
        name: subprocess.Popen(
            [sys.executable, __file__, "--worker", name, "--shape", shape, "--reward", reward, *sys.argv[1:]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if arguments.verbose else subprocess.DEVNULL,
            text=True,
        )
        for name in ("native", "trl")
    }
    facts: dict[str, list[dict[str, Any]]] = {}
    for name, worker in workers.items():
        facts[name] = [_answer(worker)]
    for _ in range(arguments.steps + 1):
        for name, worker in workers.items():
            assert worker.stdin is not None
            worker.stdin.write("step\n")
            worker.stdin.flush()
            facts[name].append(_answer(worker))
    for worker in workers.values():
        worker.communicate()
    return {name: _medians(rows) for name, rows in facts.items()}


def _answer(worker: subprocess.Popen[str]) -> dict[str, Any]:
    assert worker.stdout is not None
    line = worker.stdout.readline()
    if not line:
        raise SystemExit("a worker died; run with --verbose to see why")
    return json.loads(line)


def _medians(rows: list[dict[str, Any]]) -> dict[str, Any]:
    ready, _, *steps = rows
    result = {
        key: statistics.median(step[key] for step in steps)
        for key in ("rollout", "update", "completion_tokens", "prompt_tokens", "learned_tokens", "learned_groups")
    }
    result["step"] = statistics.median(step["rollout"] + step["update"] for step in steps)
    result["peak_bytes"] = max(step["peak_bytes"] for step in steps)
    result["added_bytes"] = max(step["added_bytes"] for step in steps)
    if "device_bytes" in steps[0]:
        result["device_bytes"] = max(step["device_bytes"] for step in steps)
    return {**result, "parameters": ready["parameters"]}


def show(shape: str, reward: str, result: dict[str, Any], peak: float) -> None:
    """A table of one shape."""
    native, trl = result["native"], result["trl"]
    print(
        f"\n{shape}, {reward} reward ({native['learned_groups']:.0f} of {NUM_PROBLEMS} groups to learn from): "
        f"prompts {native['prompt_tokens'] / NUM_PROBLEMS:.0f} tokens, completions "
        f"{native['completion_tokens'] / NUM_PROBLEMS / GROUP_SIZE:.0f} (native), "
        f"{trl['completion_tokens'] / NUM_PROBLEMS / GROUP_SIZE:.0f} (TRL) tokens on average"
    )
    print(f"{'':16}{'native':>12}{'TRL':>12}{'ratio':>9}{'native: share of matrix peak':>32}")
    sampled = 2 * native["parameters"] * (native["completion_tokens"] + native["prompt_tokens"])
    learned = 6 * native["parameters"] * native["learned_tokens"]
    for phase, operations in (("rollout", sampled), ("update", learned), ("step", sampled + learned)):
        share = operations / native[phase] / peak
        ratio = trl[phase] / native[phase]
        print(f"{phase + ' seconds':16}{native[phase]:12.2f}{trl[phase]:12.2f}{ratio:8.2f}×{share:31.0%}")
    for key, label in (("added_bytes", "added MB"), ("peak_bytes", "peak MB"), ("device_bytes", "device MB")):
        if key not in native:
            continue
        print(f"{label:16}{native[key] / 1e6:12.0f}{trl[key] / 1e6:12.0f}{native[key] / trl[key]:8.2f}×")


def main() -> None:
    """Parses the command line; a worker is this file again."""
    global NUM_PROBLEMS
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--rewards", nargs="+", default=list(REWARDS), choices=REWARDS, help="of the short shape")
    parser.add_argument(
        "--problems", type=int, default=NUM_PROBLEMS, help="of a step; fewer where a step takes an hour"
    )
    parser.add_argument("--steps", type=int, default=5, help="measured steps of each trainer")
    parser.add_argument("--threads", type=int, default=1, help="torch threads of each trainer")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--width", type=int, help="random weights of this width instead of the embedded policy")
    parser.add_argument("--layers", type=int, default=6, help="layers of a random policy")
    parser.add_argument("--inner", type=int, help="inner width of a random policy's MLP")
    parser.add_argument("--key-heads", type=int, help="key heads of a random policy")
    parser.add_argument("--vocabulary", type=int, help="tokens of a random policy; needs --width")
    parser.add_argument("--trl-microbatch", type=int, default=32, help="completions per forward pass of TRL")
    parser.add_argument("--native-microbatch-tokens", type=int, default=2048, help="tokens per forward pass of gradus")
    parser.add_argument("--write", action="store_true", help="write the figures under benchmarks/results/")
    parser.add_argument("--verbose", action="store_true", help="show what the workers print")
    parser.add_argument("--worker", choices=["native", "trl"], help=argparse.SUPPRESS)
    parser.add_argument("--shape", choices=list(SHAPES), help=argparse.SUPPRESS)
    parser.add_argument("--reward", choices=REWARDS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    NUM_PROBLEMS = arguments.problems
    if arguments.worker:
        work(arguments)
        return
    peak = matrix_peak(arguments.threads, arguments.dtype, arguments.device)
    policy = (
        "nano/countdown"
        if arguments.width is None
        else f"random weights, {arguments.layers} layers × {arguments.width}"
        + (f", {arguments.vocabulary:,} tokens" if arguments.vocabulary else "")
    )
    print(
        f"{policy}, {NUM_PROBLEMS} problems × {GROUP_SIZE} completions, {arguments.dtype}, {arguments.threads} threads, "
        f"median of {arguments.steps} steps; matrix-product peak {peak / 1e9:.0f} GFLOP/s"
    )
    results = {}
    for shape in arguments.shapes:
        for reward in arguments.rewards if shape == "short" else ("spread",):
            results[f"{shape}/{reward}"] = measure(arguments, shape, reward)
            show(shape, reward, results[f"{shape}/{reward}"], peak)
    if arguments.write:
        write(arguments, policy, peak, results)


def write(arguments: argparse.Namespace, policy: str, peak: float, results: dict[str, Any]) -> None:
    """One JSON file per run, named by date and settings."""
    now = datetime.now(UTC)
    size = "" if arguments.width is None else f"-{arguments.width}x{arguments.layers}"
    size += "" if arguments.vocabulary is None else f"-{arguments.vocabulary}"
    place = f"{arguments.threads}t" if arguments.device == "cpu" else arguments.device
    name = f"grpo_step-{now:%Y-%m-%d}-{arguments.dtype}-{place}{size}.json"
    content = {
        "date": f"{now:%Y-%m-%d}",
        "hardware": hardware(arguments.device),
        "policy": policy,
        "settings": {
            key: value
            for key, value in vars(arguments).items()
            if key not in ("worker", "shape", "reward", "write", "verbose")
        },
        "matrix_peak_flops": peak,
        "results": results,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / name).write_text(json.dumps(content, indent=2) + "\n")
    print(f"\nwritten: {RESULTS.name}/{name}")


def hardware(device: str) -> str:
    """Processor, and the GPU where one is used."""
    found = f"{platform.machine()} {cpu_name()}, {os.cpu_count()} cores"
    if device != "cuda":
        return found
    import torch

    return f"{torch.cuda.get_device_name()}, {found}"


def cpu_name() -> str:
    """Model name of the processor, where the system tells it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


if __name__ == "__main__":
    main()
