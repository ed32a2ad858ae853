"""The model card of a weights directory: what it is, what it was made of, how it was measured, its limits."""

import textwrap
from collections.abc import Mapping
from typing import Any

_WIDTH = 100
_TEXT = """# Router weights {version}

Weights of Pick and Spin's learned classifier.
They estimate the chance that each of {models} models, and an average model of each tier, answers a prompt well.
They also estimate the prompt's complexity class and the length of the answer.
They decide where a request goes; they generate no text.

## How they were made

`pickspin train`, {made}. {start}
{seeds}

## Data

{prompts} distinct prompts, {labels} outcomes (0/1 or a score) of {models} models, from: {sources}.
The parts are split by question, so that copies of a question stay together: {parts}.
The train part is learned from. The tune part is for calibration, thresholds and shares of a mixture.
The dev part is only for the figures below.
Digest of the rows: `{digest}`.
Sources that allow evaluation only (AlpacaEval 2, CC BY-NC 4.0; RouterArena, by its rules) are left out.
{licence}

## Figures (dev part)

{figures}

ECE: expected calibration error of the chance of success, 15 bins.
The class is a tercile of how much worse than usual the models did on the prompt.
Guessing is right a third of the time.
{classes}

## Limits

{limits}
A gate rejects prompts unlike them, and priors decide instead.
A model that is not in the list has no head; the head of its tier is used.
Outcomes are single answers, mostly greedy. Their noise bounds what any router can reach.
Nothing here says how a model does on your own traffic: train on it (`pickspin train --from-store`).

## Files

{files}
"""

_LIMITS = "Trained on public benchmark questions, nearly all English."


def model_card(training: Mapping[str, Any], files: Mapping[str, str]) -> str:
    """The card as Markdown. `training` as in the manifest; `files`: sha256 by name."""
    data = training["data"]
    parts = ", ".join(f"{name} {count}" for name, count in data["parts"].items())
    start = training.get("start")
    text = _TEXT.format(
        version=training.get("name", ""),
        made=training.get("made", ""),
        start=""
        if start is None
        else f"The encoder started from {start['name']} ({start['licence']}).",
        seeds=f"Recipe: `{training.get('recipe')}`",
        prompts=data["prompts"],
        labels=data["labels"],
        models=data["models"],
        sources=", ".join(data["sources"]),
        parts=parts,
        digest=data["sha256"],
        licence=training.get("licence", ""),
        limits=training.get("limits", _LIMITS),
        figures=_table(training["figures"]),
        classes=_classes(training.get("classes")),
        files="\n".join(f"- `{name}` sha256 `{digest}`" for name, digest in sorted(files.items())),
    )
    return "".join(f"{_wrap(line)}\n" for line in text.replace("\n\n\n", "\n\n").splitlines())


def _wrap(line: str) -> str:
    """A line of prose within the width; a table's row as it is."""
    if line.startswith(("|", "#")):
        return line.rstrip()
    return textwrap.fill(line, _WIDTH, break_long_words=False, break_on_hyphens=False)


def _classes(learned: Mapping[str, Any] | None) -> str:
    """What is said of complexity heads; nothing where there are none."""
    if learned is None:
        return ""
    shares = ", ".join(
        f"{stage} {share:.1%}" for stage, share in learned["cross_validated"].items()
    )
    return (
        f"The class that is served comes from other heads, learned from {learned['prompts']} labelled prompts.\n"
        f"Their digest: `{learned['sha256']}`.\n"
        f"Right on prompts kept apart, cross-validated: {shares}."
    )


def _table(figures: Mapping[str, Mapping[str, Any]]) -> str:
    names = sorted({name for each in figures.values() for name in each})
    if not names:
        return "None: there was too little data to keep some for figures."
    lines = ["| stage | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for stage, each in figures.items():
        lines.append(f"| {stage} | " + " | ".join(str(each.get(name, "")) for name in names) + " |")
    return "\n".join(lines)
