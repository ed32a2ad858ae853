"""Recorded outcomes: which model answered which question how well. What routers are trained and measured on.

One file a source, gzip, JSON Lines, one question a line. A question keeps one `qkey` (a hash of its stem) in every
file, so that a cut by `assign_part` puts it, and its copies, on one side only.
"""

import gzip
import hashlib
import re
import unicodedata
import zlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, field

Part = Literal["train", "tune", "dev"]
Score = Annotated[float, Meta(ge=-0.1, le=1)]
Amount = Annotated[float, Meta(ge=0)]
Count = Annotated[int, Meta(ge=0)]
Name = Annotated[str, Meta(min_length=1)]

EVALUATION_ONLY: Final = frozenset(
    {
        *("alpacaeval2_nc", "alpacaeval2"),  # CC BY-NC 4.0
        *(
            "routerarena_sub10_evalonly",
            "routerarena_sub10",
        ),  # its rules forbid training and tuning
    }
)
"""Sources, by file name and by the `source` of their rows, that nothing may be trained or tuned on."""

DEV_SHARE: Final = 0.15
TUNE_SHARE: Final = 0.10
_SUFFIX: Final = ".jsonl.gz"
_FIRST_OPTION: Final = "\nA. "
_SECOND_OPTION: Final = "\nB. "
_NO_WORD: Final = re.compile(r"\W+|_")


class OutcomeRow(msgspec.Struct, frozen=True, kw_only=True):
    """One question and how well each model answered it.

    `outcomes` maps a model to its score in [0, 1]; a model that is absent was not asked. Some scorers take off a little
    for a wrong answer: what they put just below 0 (at least -0.1) becomes 0. The other mappings are by model too, and
    empty where nothing is known: `out_chars` characters of the answer, `cost` USD of the call, `latency_ms` measured,
    `tokens` (in, out). `category` is the benchmark's own subject, None where it has none.
    """

    id: Name
    source: Name
    benchmark: Name
    qkey: Name
    prompt: str
    outcomes: Mapping[str, Score]
    category: str | None = None
    out_chars: Mapping[str, Count] = field(default_factory=dict)
    cost: Mapping[str, Amount] = field(default_factory=dict)
    latency_ms: Mapping[str, Amount] = field(default_factory=dict)
    tokens: Mapping[str, tuple[Count, Count]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if min(self.outcomes.values(), default=0.0) < 0:
            kept = {model: max(0.0, score) for model, score in self.outcomes.items()}
            msgspec.structs.force_setattr(self, "outcomes", kept)


class BadOutcomes(Exception):
    """A file or row that cannot be used. `path` and `line` (1-based; None: the file as a whole) say where."""

    def __init__(self, path: Path, line: int | None, message: str) -> None:
        self.path = path
        self.line = line
        where = str(path) if line is None else f"{path}, line {line}"
        super().__init__(f"{where}: {message}")


def assign_part(qkey: str) -> Part:
    """The part of a question: 15 % dev (reported on), 10 % tune (choices are made on it), else train."""
    digest = hashlib.sha256(f"dev:{qkey}".encode()).hexdigest()
    share = int(digest[:8], 16) / 2**32
    if share < DEV_SHARE:
        return "dev"
    return "tune" if share < DEV_SHARE + TUNE_SHARE else "train"


def hash_question(prompt: str) -> str:
    """The `qkey` of a question: 16 hex digits of the SHA-256 of its stem, so that reworded options make no difference.

    The stem is what comes before lettered options (A. B. ... each on a line), in NFKC and lower case, every run of
    non-word characters and every underscore a blank.
    """
    stem, _, options = prompt.partition(_FIRST_OPTION)
    if _SECOND_OPTION not in options:
        stem = prompt
    normal = _NO_WORD.sub(" ", unicodedata.normalize("NFKC", stem).lower()).strip()
    return hashlib.sha256(normal.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def list_outcome_files(directory: Path) -> dict[str, Path]:
    """The outcome files of a directory by source (file name without suffix), in order of name.

    Looks into `<directory>/outcomes` where that is, else into the directory itself. Raises BadOutcomes when there is no
    such directory or no file in it.
    """
    below = directory / "outcomes"
    folder = below if below.is_dir() else directory
    if not folder.is_dir():
        raise BadOutcomes(folder, None, "no such directory")
    found = {path.name.removesuffix(_SUFFIX): path for path in sorted(folder.glob(f"*{_SUFFIX}"))}
    if not found:
        raise BadOutcomes(folder, None, f"no file *{_SUFFIX} in this directory")
    return found


def read_outcomes(
    directory: Path, *, sources: Collection[str] | None = None
) -> Iterator[OutcomeRow]:
    """Every row of the files of a directory (see `list_outcome_files`), one by one.

    `sources` keeps the files of these names only; a name without a file is no error: ask `list_outcome_files`. Raises
    BadOutcomes, naming file and line, on the first row that does not fit.
    """
    for source, path in list_outcome_files(directory).items():
        if sources is None or source in sources:
            yield from read_outcome_file(path)


def read_outcome_file(path: Path) -> Iterator[OutcomeRow]:
    """The rows of one file. Raises BadOutcomes, naming the line, on the first row that does not fit."""
    decoder = msgspec.json.Decoder(OutcomeRow)
    number = None
    try:
        with gzip.open(path, "rb") as lines:
            for number, line in enumerate(lines, 1):  # noqa: B007 - read again where it breaks off
                if line.strip():
                    yield decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise BadOutcomes(path, number, str(exc)) from exc
    except (OSError, EOFError, zlib.error) as exc:
        raise BadOutcomes(path, number, f"cannot be read: {exc}") from exc
