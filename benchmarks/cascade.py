"""How far the small model's confidence can be trusted: `python -m benchmarks.cascade`.

SmolLM2-135M answers questions with log probabilities, through the model server and the code that the worker uses. Each
answer is graded; printed are, for every measure of `router_model.cascade.confidence`, the expected
calibration error (ECE, ten equal-width bins), the Brier score and the area under the ROC curve of
confidence against correctness, before and after an isotonic map. The map is fitted on one half of
the questions and judged on the other, averaged over 50 such splits; the area needs no fit and is
that of all questions, with a bootstrap interval.

Question sets: ARC-Challenge (with --data, where that directory is there), and the capitals of countries, some known to
everybody and some not: a set on which a model of this size is neither always right nor always wrong.
"""

import argparse
import asyncio
import gzip
import json
import os
import platform
import random
import re
import subprocess
import sys
import tempfile
import time
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import httpx
from rich.console import Console
from rich.table import Table

from examples.local_stack import free_port
from functions.backends.model_weights import locate
from functions.factories import load_catalogue
from functions.runtime.settings import Settings
from router_model.cascade.confidence import (
    Measure,
    TokenConfidence,
    calibrate,
    fit_isotonic,
    read_logprobs,
)

MODEL = "smollm2-135m-instruct"
MEASURES: tuple[Measure, ...] = get_args(Measure)
BINS = 10
SPLITS = 50
LEAST = 20
"""Fewer answers give no figures."""
CAPITALS = """
France:Paris, Germany:Berlin, Italy:Rome, Spain:Madrid, Portugal:Lisbon, Greece:Athens,
Poland:Warsaw, Austria:Vienna, Hungary:Budapest, Romania:Bucharest, Bulgaria:Sofia, Serbia:Belgrade,
Croatia:Zagreb, Slovenia:Ljubljana, Slovakia:Bratislava, Albania:Tirana, Montenegro:Podgorica,
Kosovo:Pristina, Moldova:Chisinau, Ukraine:Kyiv, Belarus:Minsk, Lithuania:Vilnius, Latvia:Riga,
Estonia:Tallinn, Finland:Helsinki, Sweden:Stockholm, Norway:Oslo, Denmark:Copenhagen,
Iceland:Reykjavik, Belgium:Brussels, the Netherlands:Amsterdam, Switzerland:Bern,
Liechtenstein:Vaduz, Malta:Valletta, Cyprus:Nicosia, Russia:Moscow, Turkey:Ankara, Georgia:Tbilisi,
Armenia:Yerevan, Azerbaijan:Baku, Iran:Tehran, Iraq:Baghdad, Syria:Damascus, Lebanon:Beirut,
Jordan:Amman, Saudi Arabia:Riyadh, Yemen:Sana, Oman:Muscat, Qatar:Doha, Bahrain:Manama, the United
Arab Emirates:Abu Dhabi, Afghanistan:Kabul, Pakistan:Islamabad, India:Delhi, Nepal:Kathmandu,
Bhutan:Thimphu, Bangladesh:Dhaka, Myanmar:Naypyidaw, Thailand:Bangkok, Laos:Vientiane,
Cambodia:Phnom Penh, Vietnam:Hanoi, Malaysia:Kuala Lumpur, Indonesia:Jakarta, the
Philippines:Manila, China:Beijing, Mongolia:Ulaanbaatar, Japan:Tokyo, South Korea:Seoul, North
Korea:Pyongyang, Taiwan:Taipei, Kazakhstan:Astana, Uzbekistan:Tashkent, Turkmenistan:Ashgabat,
Kyrgyzstan:Bishkek, Tajikistan:Dushanbe, Australia:Canberra, New Zealand:Wellington, Fiji:Suva,
Papua New Guinea:Port Moresby, Samoa:Apia, Tonga:Nuku, Vanuatu:Port Vila, the Solomon
Islands:Honiara, Palau:Ngerulmud, Egypt:Cairo, Libya:Tripoli, Tunisia:Tunis, Algeria:Algiers,
Morocco:Rabat, Mauritania:Nouakchott, Mali:Bamako, Niger:Niamey, Chad:Djamena, Sudan:Khartoum, South
Sudan:Juba, Ethiopia:Addis Ababa, Eritrea:Asmara, Djibouti:Djibouti, Somalia:Mogadishu,
Kenya:Nairobi, Uganda:Kampala, Rwanda:Kigali, Burundi:Gitega, Tanzania:Dodoma, Mozambique:Maputo,
Malawi:Lilongwe, Zambia:Lusaka, Zimbabwe:Harare, Botswana:Gaborone, Namibia:Windhoek,
Lesotho:Maseru, Angola:Luanda, Gabon:Libreville, Cameroon:Yaounde, Nigeria:Abuja, Benin:Porto-Novo,
Togo:Lome, Ghana:Accra, Burkina Faso:Ouagadougou, Liberia:Monrovia, Sierra Leone:Freetown,
Guinea:Conakry, Senegal:Dakar, the Gambia:Banjul, Cape Verde:Praia, Madagascar:Antananarivo,
Mauritius:Port Louis, Seychelles:Victoria, Canada:Ottawa, Mexico:Mexico City, Guatemala:Guatemala
City, Belize:Belmopan, Honduras:Tegucigalpa, El Salvador:San Salvador, Nicaragua:Managua, Costa
Rica:San Jose, Panama:Panama City, Cuba:Havana, Jamaica:Kingston, Haiti:Port-au-Prince, the
Dominican Republic:Santo Domingo, Trinidad and Tobago:Port of Spain, Barbados:Bridgetown,
Colombia:Bogota, Venezuela:Caracas, Ecuador:Quito, Peru:Lima, Bolivia:La Paz, Chile:Santiago,
Argentina:Buenos Aires, Uruguay:Montevideo, Paraguay:Asuncion, Brazil:Brasilia, Guyana:Georgetown,
Suriname:Paramaribo
"""


@dataclass(frozen=True)
class Question:
    """`shots`: example turns before the question."""

    id: str
    prompt: str
    answer: str
    shots: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Graded:
    """One answer: its raw measures, whether it was right, how many tokens it had and how long it took."""

    id: str
    said: str
    is_right: bool
    raw: dict[str, float]
    tokens: int
    seconds: float


@dataclass(frozen=True)
class Figures:
    """Calibration of one measure, raw and mapped; `points`: the map of all answers. `auroc` None: not both kinds."""

    suite: str
    measure: str
    questions: int
    accuracy: float
    mean_raw: float
    ece_raw: float
    ece_mapped: float
    brier_raw: float
    brier_mapped: float
    brier_constant: float
    auroc: float | None
    auroc_interval: tuple[float, float] | None
    points: tuple[tuple[float, float], ...]


def arc(data: Path, count: int, seed: int) -> list[Question]:
    """ARC-Challenge questions in a fixed random order; empty where the file is not there."""
    path = data / "prompts" / "arc_challenge.jsonl.gz"
    if not path.is_file():
        return []
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    random.Random(seed).shuffle(rows)
    return [
        Question(row["id"], f"{row['prompt']}\nAnswer with one letter.", row["answer"])
        for row in rows[:count]
    ]


def capitals(count: int, seed: int) -> list[Question]:
    """Capitals, each with two worked examples before it, in a fixed random order."""
    shots = (
        ("What is the capital of the United States?", "Washington"),
        ("What is the capital of Ireland?", "Dublin"),
    )
    pairs = [tuple(pair.split(":")) for pair in " ".join(CAPITALS.split()).split(", ")]
    random.Random(seed).shuffle(pairs)
    return [
        Question(f"capital/{country}", f"What is the capital of {country}?", city, shots)
        for country, city in pairs[:count]
    ]


def is_letter_right(said: str, answer: str) -> bool:
    """The first letter A to E (or digit 1 to 5) that stands alone is the answer."""
    found = re.search(r"\b([A-E1-5])\b", said)
    return found is not None and found.group(1) == answer


def is_name_right(said: str, answer: str) -> bool:
    """The first sentence names it, whatever the accents."""
    first = re.split(r"[.\n]", said.strip(), maxsplit=1)[0]
    return plain(answer) in plain(first)


def plain(text: str) -> str:
    """Lower case without accents."""
    parts = unicodedata.normalize("NFKD", text.lower())
    return "".join(char for char in parts if not unicodedata.combining(char))


async def ask(
    client: httpx.AsyncClient, question: Question, grade: Callable[[str, str], bool]
) -> Graded | None:
    """Greedy; None where the server gave no log probabilities."""
    turns = [
        {"role": role, "content": text}
        for shot in question.shots
        for role, text in zip(("user", "assistant"), shot, strict=True)
    ]
    body = {
        "messages": [*turns, {"role": "user", "content": question.prompt}],
        "max_tokens": 16,
        "temperature": 0,
        "logprobs": True,
        "top_logprobs": 1,
        "cache_prompt": False,
    }
    began = time.perf_counter()
    answer = await client.post("/v1/chat/completions", json=body)
    answer.raise_for_status()
    (choice,) = answer.json()["choices"]
    logprobs = read_logprobs(choice.get("logprobs"))
    if logprobs is None:
        return None
    tokens = TokenConfidence(logprobs)
    raw = {measure: value for measure in MEASURES if (value := tokens.raw(measure)) is not None}
    said = choice["message"]["content"]
    return Graded(
        question.id,
        said,
        grade(said, question.answer),
        raw,
        len(logprobs),
        round(time.perf_counter() - began, 3),
    )


def ece(chances: Sequence[float], rights: Sequence[bool]) -> float:
    """Expected calibration error (Naeini et al. 2015): mean over bins of |accuracy - mean chance|, by bin size."""
    return sum(
        count * abs(accuracy - mean) for _, count, mean, accuracy in reliability(chances, rights)
    ) / len(chances)


def reliability(
    chances: Sequence[float], rights: Sequence[bool]
) -> list[tuple[int, int, float, float]]:
    """(bin, answers, mean chance, accuracy) of every equal-width bin that holds answers."""
    bins: dict[int, list[tuple[float, bool]]] = {}
    for chance, right in zip(chances, rights, strict=True):
        bins.setdefault(min(BINS - 1, int(chance * BINS)), []).append((chance, right))
    return [
        (
            place,
            len(found),
            sum(chance for chance, _ in found) / len(found),
            sum(right for _, right in found) / len(found),
        )
        for place, found in sorted(bins.items())
    ]


def brier(chances: Sequence[float], rights: Sequence[bool]) -> float:
    """Mean squared distance of the chance from what happened."""
    return sum((c - r) ** 2 for c, r in zip(chances, rights, strict=True)) / len(chances)


def auroc(chances: Sequence[float], rights: Sequence[bool]) -> float | None:
    """Chance that a right answer is more confident than a wrong one (ties count half); None without both kinds."""
    good = [c for c, r in zip(chances, rights, strict=True) if r]
    bad = [c for c, r in zip(chances, rights, strict=True) if not r]
    if not good or not bad:
        return None
    wins = sum((g > b) + 0.5 * (g == b) for g in good for b in bad)
    return wins / (len(good) * len(bad))


def interval(
    chances: Sequence[float], rights: Sequence[bool], seed: int, draws: int = 1000
) -> tuple[float, float] | None:
    """95 % bootstrap interval of the area under the curve, over questions."""
    chance = random.Random(seed)
    places = range(len(chances))
    found = []
    for _ in range(draws):
        drawn = chance.choices(places, k=len(places))
        area = auroc([chances[n] for n in drawn], [rights[n] for n in drawn])
        if area is not None:
            found.append(area)
    if not found:
        return None
    found.sort()
    return round(found[int(0.025 * len(found))], 3), round(found[int(0.975 * len(found)) - 1], 3)


def halves(graded: Sequence[Graded], seed: int) -> tuple[list[Graded], list[Graded]]:
    """The half that the map is fitted on, and the half that is reported."""
    shuffled = list(graded)
    random.Random(seed).shuffle(shuffled)
    middle = len(shuffled) // 2
    return shuffled[:middle], shuffled[middle:]


def figures(suite: str, measure: Measure, graded: Sequence[Graded], seed: int) -> Figures:
    """Fits on one half and judges on the other, over many splits."""
    raw = [one.raw[measure] for one in graded]
    rights = [one.is_right for one in graded]
    splits = [judged(measure, graded, seed + number) for number in range(SPLITS)]
    means = [round(sum(column) / SPLITS, 3) for column in zip(*splits, strict=True)]
    area = auroc(raw, rights)
    return Figures(
        suite,
        measure,
        len(graded),
        round(sum(rights) / len(rights), 3),
        round(sum(raw) / len(raw), 3),
        *means,
        auroc=None if area is None else round(area, 3),
        auroc_interval=interval(raw, rights, seed),
        points=tuple((round(x, 4), round(y, 4)) for x, y in map_of(measure, graded)),
    )


def map_of(measure: Measure, graded: Sequence[Graded]) -> tuple[tuple[float, float], ...]:
    """The isotonic map of graded answers."""
    return fit_isotonic([g.raw[measure] for g in graded], [float(g.is_right) for g in graded])


def judged(measure: Measure, graded: Sequence[Graded], seed: int) -> tuple[float, ...]:
    """ECE raw and mapped; Brier score raw, mapped and of the fitted half's accuracy; all on the other half."""
    fitted, held = halves(graded, seed)
    points = map_of(measure, fitted)
    raw = [g.raw[measure] for g in held]
    mapped = [calibrate(value, points) for value in raw]
    rights = [g.is_right for g in held]
    base = [sum(g.is_right for g in fitted) / len(fitted)] * len(held)
    chances = (brier(raw, rights), brier(mapped, rights), brier(base, rights))
    return (ece(raw, rights), ece(mapped, rights), *chances)


def cascade_table(
    graded: Sequence[Graded], measure: Measure, seed: int
) -> list[tuple[float, float, float | None]]:
    """(threshold, share kept, accuracy of what is kept) by mapped confidence, of the judged halves of all splits."""
    pairs = []
    for number in range(SPLITS):
        fitted, held = halves(graded, seed + number)
        points = map_of(measure, fitted)
        pairs += [(calibrate(g.raw[measure], points), g.is_right) for g in held]
    rows: list[tuple[float, float, float | None]] = []
    for threshold in (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8):
        kept = [right for chance, right in pairs if chance >= threshold]
        accuracy = round(sum(kept) / len(kept), 3) if kept else None
        rows.append((threshold, round(len(kept) / len(pairs), 3), accuracy))
    return rows


def picture(suites: dict[str, list[Graded]], measure: Measure, seed: int) -> str:
    """Reliability diagrams as SVG, one panel a suite: raw (grey) and mapped (blue), area by number of answers."""
    side, margin = 260, 50
    width = len(suites) * (side + margin) + margin
    size = f'width="{width}" height="{side + 2 * margin + 20}"'
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for number, (suite, graded) in enumerate(suites.items()):
        left, top = margin + number * (side + margin), margin
        fitted, held = halves(graded, seed)
        points = map_of(measure, fitted)
        raw = [g.raw[measure] for g in held]
        rights = [g.is_right for g in held]
        out.append(
            f'<text x="{left}" y="{top - 12}" font-weight="bold">{suite}: {measure}, n={len(held)}</text>'
            f'<rect x="{left}" y="{top}" width="{side}" height="{side}" fill="none" stroke="#999"/>'
            f'<path d="M{left} {top + side}L{left + side} {top}" stroke="#bbb" stroke-dasharray="4"/>'
            f'<text x="{left + side / 2}" y="{top + side + 28}" text-anchor="middle">stated chance</text>'
            f'<text x="{left - 8}" y="{top + side / 2}" text-anchor="middle" '
            f'transform="rotate(-90 {left - 8} {top + side / 2})">share right</text>'
        )
        for values, colour in ((raw, "#888"), ([calibrate(v, points) for v in raw], "#1565c0")):
            for _, count, mean, accuracy in reliability(values, rights):
                x, y = left + mean * side, top + (1 - accuracy) * side
                radius = 3 + 12 * (count / len(held)) ** 0.5
                out.append(
                    f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{colour}" fill-opacity="0.6"/>'
                )
    out.append(
        f'<text x="{margin}" y="{side + 2 * margin + 8}" fill="#888">grey: raw</text>'
        f'<text x="{margin + 80}" y="{side + 2 * margin + 8}" fill="#1565c0">blue: isotonic map, '
        "fitted on the other half</text></svg>"
    )
    return "\n".join(out)


async def measured(
    url: str, questions: Sequence[Question], grade: Callable[[str, str], bool]
) -> list[Graded]:
    """Asks one after the other."""
    async with httpx.AsyncClient(base_url=url, timeout=120, trust_env=False) as client:
        found = [await ask(client, question, grade) for question in questions]
    missing = sum(one is None for one in found)
    if missing:
        print(f"{missing} answers came without log probabilities", file=sys.stderr)
    return [one for one in found if one is not None]


def start_server(threads: int) -> tuple[subprocess.Popen[bytes], str]:
    """The model server as a worker starts it; returns when it is healthy."""
    model = load_catalogue(Settings()).model(MODEL)
    if model is None:
        raise SystemExit(f"no model {MODEL} in the built-in catalogue")
    port = free_port()
    path = locate(model.weights, Path(tempfile.gettempdir()) / "pickspin-benchmark")
    command = [
        sys.executable, "-m", "functions.backends.llama_server",
        "--model", str(path), "--port", str(port), "--context", "1024", "--threads", str(threads),
        "--parent", str(os.getpid()), "--verbosity", "0",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        try:
            if httpx.get(f"{url}/health", trust_env=False).status_code == 200:
                return process, url
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    process.terminate()
    raise SystemExit("the model server did not become healthy")


def show(rows: Sequence[Figures]) -> None:
    """The table of a person."""
    table = Table(title="Confidence of SmolLM2-135M against correctness")
    for name in (
        "suite", "measure", "n", "accuracy", "mean raw", "ECE raw", "ECE mapped", "Brier raw",
        "Brier mapped", "Brier constant", "AUROC", "95 %",
    ):  # fmt: skip
        table.add_column(name)
    for row in rows:
        table.add_row(
            row.suite, row.measure, str(row.questions), *(
                f"{value:.3f}"
                for value in (row.accuracy, row.mean_raw, row.ece_raw, row.ece_mapped,
                              row.brier_raw, row.brier_mapped, row.brier_constant)
            ),
            "-" if row.auroc is None else f"{row.auroc:.3f}",
            "-" if row.auroc_interval is None else "{:.2f}-{:.2f}".format(*row.auroc_interval),
        )  # fmt: skip
    Console(width=160).print(table)


def report(suites: dict[str, list[Graded]], seed: int) -> dict[str, Any]:
    """Everything that was found, as JSON."""
    rows = [figures(name, m, graded, seed) for name, graded in suites.items() for m in MEASURES]
    show(rows)
    cascades = {
        name: cascade_table(graded, "geometric_mean", seed) for name, graded in suites.items()
    }
    for name, table in cascades.items():
        print(f"{name}: mapped geometric mean at least t: share kept by the small model, accuracy")
        for threshold, share, accuracy in table:
            shown = "-" if accuracy is None else f"{accuracy:.3f}"
            print(f"  t={threshold:.2f}  kept {share:.3f}  right {shown}")
    return {
        "model": MODEL,
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
        "seed": seed,
        "figures": [asdict(row) for row in rows],
        "kept": cascades,
        "answers": {name: [asdict(one) for one in graded] for name, graded in suites.items()},
    }


def earlier(path: Path) -> dict[str, list[Graded]]:
    """The answers that an earlier run wrote."""
    answers = json.loads(path.read_text(encoding="utf-8"))["answers"]
    return {name: [Graded(**one) for one in graded] for name, graded in answers.items()}


def asked(flags: argparse.Namespace) -> dict[str, list[Graded]]:
    """Asks the model all questions and grades what it says."""
    wanted: dict[str, tuple[list[Question], Callable[[str, str], bool]]] = {
        "capitals": (capitals(flags.capitals, flags.seed), is_name_right),
        "arc_challenge": (arc(flags.data, flags.arc, flags.seed), is_letter_right),
    }
    if not wanted["arc_challenge"][0]:
        print(f"no ARC-Challenge prompts under {flags.data}: that set is skipped", file=sys.stderr)
    process, url = start_server(flags.threads)
    suites: dict[str, list[Graded]] = {}
    try:
        for name, (questions, grade) in wanted.items():
            graded = asyncio.run(measured(url, questions, grade)) if questions else []
            if len(graded) >= LEAST:
                suites[name] = graded
    finally:
        process.terminate()
        process.wait(10)
    return suites


def main(arguments: list[str] | None = None) -> int:
    """Runs the sets and prints the table; writes JSON and picture where told."""
    parser = argparse.ArgumentParser(prog="benchmarks.cascade", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--arc", type=int, default=160, help="ARC-Challenge questions")
    parser.add_argument("--capitals", type=int, default=160, help="capitals")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--answers", type=Path, help="report on the answers of an earlier --json")
    parser.add_argument("--json", type=Path, help="write everything here")
    parser.add_argument("--svg", type=Path, help="write the reliability diagrams here")
    flags = parser.parse_args(arguments)
    suites = earlier(flags.answers) if flags.answers else asked(flags)
    if not suites:
        print("nothing to report: too few answers", file=sys.stderr)
        return 1
    found = report(suites, flags.seed)
    if flags.json:
        flags.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if flags.svg:
        flags.svg.write_text(picture(suites, "geometric_mean", flags.seed), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
