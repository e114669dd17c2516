"""Questions with known answers in SQuAD's format (Rajpurkar et al., EMNLP 2016; version 2, ACL 2018)."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.evaluation.figures import Json
from services.common.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Paragraph:
    """One document of the corpus."""

    doc_id: str
    article: str
    text: str

    @property
    def document(self) -> dict[str, str]:
        """As it is ingested."""
        return {"id": self.doc_id, "title": self.article, "text": self.text}


@dataclass(frozen=True, slots=True)
class SquadQuestion:
    """`golds` are the spans that answer it, as annotators marked them: one or more."""

    article: str
    text: str
    golds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Squad:
    paragraphs: tuple[Paragraph, ...]
    questions: tuple[SquadQuestion, ...]

    @property
    def articles(self) -> list[str]:
        """Titles, in the file's order."""
        return list(dict.fromkeys(paragraph.article for paragraph in self.paragraphs))


def load_squad(path: Path) -> Squad:
    """The file's paragraphs and questions. Raises InvalidRequest for one in another format."""
    try:
        articles = json.loads(path.read_text(encoding="utf-8"))["data"]
        paragraphs = [paragraph for article in articles for paragraph in _paragraphs(article)]
        questions = [question for article in articles for question in _questions(article)]
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidRequest(f"{path} is not in SQuAD's format ({type(error).__name__}: {error})") from error
    return Squad(tuple(paragraphs), tuple(questions))


def _title(article: Json) -> str:
    return str(article["title"]).replace("_", " ")


def _paragraphs(article: Json) -> Iterator[Paragraph]:
    for number, paragraph in enumerate(article["paragraphs"]):
        yield Paragraph(f"{article['title']}-{number}", _title(article), paragraph["context"])


def _questions(article: Json) -> Iterator[SquadQuestion]:
    """Those that have an answer."""
    for paragraph in article["paragraphs"]:
        for asked in paragraph["qas"]:
            if golds := tuple(gold["text"] for gold in asked["answers"]):
                yield SquadQuestion(_title(article), asked["question"], golds)


def sample(questions: Sequence[SquadQuestion], count: int, seed: int) -> list[SquadQuestion]:
    """`count` of the questions, the same for the same seed; all of them where there are fewer."""
    return random.Random(seed).sample(questions, min(count, len(questions)))


def hold_out(squad: Squad, count: int, seed: int) -> tuple[list[Paragraph], list[SquadQuestion]]:
    """Half of the articles, and `count` questions about the others, which nothing in that half answers."""
    articles = squad.articles
    random.Random(seed).shuffle(articles)
    kept = set(articles[: len(articles) // 2])
    paragraphs = [paragraph for paragraph in squad.paragraphs if paragraph.article in kept]
    others = [question for question in squad.questions if question.article not in kept]
    return paragraphs, sample(others, count, seed)
