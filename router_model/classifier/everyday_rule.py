"""The rule that finds a class where the learned stages abstain: words of several languages, then length.

What they cannot read is mostly another language than English, or no language. The paper's rule alone would make nearly
all of that medium.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from events.openai.operations import OPERATIONS
from router_model.classifier.features import PromptFeatures
from router_model.classifier.keyword_rules import Classification, KeywordClassifier, RouteClass

HIGH_STEMS: Final = (
    "beweis", "begründ", "herleit", "leite", "entwirf", "analysier", "démontre", "prouve", "déri", "conçois", "analyse",
    "demuestra", "demostra", "prueba", "deriva", "diseña", "analiza", "dimostra", "progetta", "analizza", "demonstre",
    "prove", "projete", "analise", "bewijs", "ontwerp", "udowodnij", "zaprojektuj", "przeanalizuj", "докаж", "доказа",
    "выведи", "спроектируй", "проанализируй", "доведи", "bevis", "ispatla", "tasarla",
)  # fmt: skip
"""Beginnings of words that ask for a proof, a derivation, a design or an analysis."""
MEDIUM_STEMS: Final = (
    "schreib", "erklär", "plan ", "plane ", "planifi", "vergleich", "unterschied", "warum", "fass", "entwickle",
    "écri", "rédige", "expli", "compare", "différence", "pourquoi", "résume", "propose", "escrib", "diferencia",
    "por qué", "resume", "hazme",
    "scriv", "spiega", "confronta", "differenza", "perché", "riassum", "escrev", "diferença", "schrijf", "leg uit",
    "verschil", "waarom", "vergelijk", "napisz", "wyjaśnij", "porównaj", "dlaczego", "напиши", "объясни", "сравни",
    "почему", "составь", "поясни", "skriv", "forklar", "förklara", "yaz",
)  # fmt: skip
"""Beginnings of words that ask for a text, an explanation, a plan or a comparison."""
HIGH_SIGNS: Final = (
    "证明",
    "推导",
    "设计",
    "証明",
    "導出",
    "設計",
    "증명",
    "유도",
    "설계",
    "أثبت",
    "برهن",
    "सिद्ध",
)
MEDIUM_SIGNS: Final = (
    "写", "解释", "比较", "计划", "为什么", "总结", "書", "説明", "比較", "計画", "なぜ", "直して", "要約", "써",
    "작성", "설명", "비교", "계획", "왜", "اكتب", "اشرح", "قارن", "لماذا", "लिख", "समझा", "तुलना", "क्यों",
)  # fmt: skip
"""The same in scripts that do not part words, or join more to them."""
SHORT_CHARS: Final = 80
"""A prompt in which nothing of this occurs is low up to here, medium beyond."""


class EverydayRule:
    """Pure. What is no question (embeddings, an empty text) is left to the keyword rule alone."""

    def __init__(self) -> None:
        self._keywords = KeywordClassifier()
        self._high = _pattern(HIGH_STEMS, HIGH_SIGNS)
        self._medium = _pattern(MEDIUM_STEMS, MEDIUM_SIGNS)

    def classify(self, features: PromptFeatures, models: Sequence[str] = ()) -> Classification:
        by_words = self._keywords.classify(features)
        if not OPERATIONS[features.operation].is_generative or not features.text:
            return by_words
        if by_words.route_class == "high":
            return by_words
        text = features.text.lower()
        if self._high.search(text):
            return Classification("high", "keyword")
        if self._medium.search(text):
            return Classification("medium", "keyword")
        if by_words.route_class == "low":
            return by_words
        return Classification(_by_length(text), "no_keyword")


def _by_length(text: str) -> RouteClass:
    return "low" if len(text.strip()) <= SHORT_CHARS else "medium"


def _pattern(stems: Iterable[str], signs: Iterable[str]) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, stems))})|{'|'.join(signs)}")
