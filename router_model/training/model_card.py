"""The model card of a weights directory: what it is, what it was made of, how it was measured, its limits."""

from collections.abc import Mapping
from typing import Any

_TEXT = """# Router weights {version}

Weights of Pick and Spin's learned classifier: the chance that each of {models} models (and an average model of
each tier) answers
a prompt well, the prompt's complexity class, and how long the answer will be. They decide where a request goes;
they generate no text.

## How they were made
`pickspin train`, {made}. {start}
{seeds}

## Data
{prompts} distinct prompts, {labels} outcomes (0/1 or a score) of {models} models, from: {sources}.
Parts by question, so that copies of a question stay together: {parts}. The training part is learned from, the tune
part is for
calibration, thresholds and shares of a mixture, the dev part only for the figures below.
Digest of the rows: `{digest}`. Sources that allow evaluation only (AlpacaEval 2, CC BY-NC 4.0; RouterArena, by its
rules) are left out.
{licence}

## Figures (dev part)
{figures}

ECE: expected calibration error of the chance of success, 15 bins. The class is a tercile of how much worse than
usual the models
did on the prompt; guessing is right a third of the time.
{classes}
## Limits
{limits} A prompt unlike them is turned away by a gate, and
priors decide; a model
that is not in the list has no head, and its tier's stands in. Outcomes are single answers, mostly greedy: noise in
them bounds what
any router can reach. Nothing here says how a model does on your own traffic: train on it (`pickspin train
--from-store`).

## Files
{files}
"""

_LIMITS = "Trained on public benchmark questions, nearly all English."


def model_card(training: Mapping[str, Any], files: Mapping[str, str]) -> str:
    """The card as Markdown. `training` as in the manifest; `files`: sha256 by name."""
    data = training["data"]
    parts = ", ".join(f"{name} {count}" for name, count in data["parts"].items())
    start = training.get("start")
    return _TEXT.format(
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


def _classes(learned: Mapping[str, Any] | None) -> str:
    """What is said of complexity heads; nothing where there are none."""
    if learned is None:
        return ""
    shares = ", ".join(
        f"{stage} {share:.1%}" for stage, share in learned["cross_validated"].items()
    )
    return (
        f"The class that is served comes from other heads, learned from {learned['prompts']} labelled prompts (digest\n"
        f"`{learned['sha256']}`). Right on prompts kept apart, cross-validated: {shares}.\n"
    )


def _table(figures: Mapping[str, Mapping[str, Any]]) -> str:
    names = sorted({name for each in figures.values() for name in each})
    if not names:
        return "None: there was too little data to keep some for figures."
    lines = ["| stage | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for stage, each in figures.items():
        lines.append(f"| {stage} | " + " | ".join(str(each.get(name, "")) for name in names) + " |")
    return "\n".join(lines)
