"""The built-in corpora against oracles of their own: a chart parser, enumeration, entropy, small
agreement checkers."""

import json
import math
import re
import tracemalloc
from collections.abc import Callable, Iterator
from functools import cache
from itertools import chain, combinations, islice, pairwise, product
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pytest

from pipeline.core import config, tables
from pipeline.core.errors import UserError
from pipeline.corpora import toy_story as stories_reader
from pipeline.download.source import load_grammar
from pipeline.grammars import toy_en_fr, toy_reviewers, toy_reviews, toy_story
from pipeline.grammars.english_french.clauses import rules as pair_rules
from pipeline.grammars.english_french.spelling import english, french
from pipeline.grammars.grammar import Config, Grammar, Rules
from pipeline.text import tokens

ROOT = Path(__file__).parents[2]


class Chart:
    """A parser of a grammar's first side that shares no code with the drawing: every derivation of
    a string, by spans."""

    def __init__(self, rules: Rules) -> None:
        self.rules = {
            symbol: [(p.weight / sum(q.weight for q in productions), p.texts) for p in productions]
            for symbol, productions in rules.items()
        }
        self.items = {
            text: self._items(text)
            for ways in self.rules.values()
            for _, sides in ways
            for text in sides[:1]
        }
        self.first: dict[str, set[str]] = {symbol: set() for symbol in self.rules}
        grown = True
        while grown:
            before = sum(map(len, self.first.values()))
            for symbol, ways in self.rules.items():
                for _, sides in ways:
                    name, is_symbol = self.items[sides[0]][0]
                    self.first[symbol] |= (
                        self.first[name.partition("#")[0]] if is_symbol else set(name.split("/"))
                    )
            grown = sum(map(len, self.first.values())) > before

    @staticmethod
    def _items(text: str) -> list[tuple[str, bool]]:
        found = re.findall(r"\{([^}]*)\}|([^\s{}]+)", text)
        return [(symbol or word, bool(symbol)) for symbol, word in found]

    def spans(self, words: list[str]) -> Callable[[str, int], dict[int, list[tuple[float, str]]]]:
        """`symbol, start -> end -> (probability, last side's text)` of each derivation, where
        `a/an` reads as either."""

        @cache
        def expand(symbol: str, start: int) -> dict[int, list[tuple[float, str]]]:
            found: dict[int, list[tuple[float, str]]] = {}
            if start >= len(words) or words[start] not in self.first[symbol]:
                return found
            for probability, sides in self.rules[symbol]:
                for end, chance, bound in walk(self.items[sides[0]], start):
                    text = re.sub(
                        r"\{([^}]*)\}", lambda match, bound=bound: bound[match[1]], sides[-1]
                    )
                    found.setdefault(end, []).append((probability * chance, text))
            return found

        def walk(
            items: list[tuple[str, bool]], start: int
        ) -> Iterator[tuple[int, float, dict[str, str]]]:
            if not items:
                yield start, 1.0, {}
                return
            (name, is_symbol), *rest = items
            if not is_symbol:
                if start < len(words) and words[start] in name.split("/"):
                    yield from walk(rest, start + 1)
                return
            for middle, ways in expand(name.partition("#")[0], start).items():
                for end, chance, bound in walk(rest, middle):
                    for probability, text in ways:
                        yield end, chance * probability, {**bound, name: text}

        return expand

    def derivations(self, symbol: str, text: str) -> list[tuple[float, str]]:
        words = text.split()
        return self.spans(words)(symbol, 0).get(len(words), [])


def strings(rules: Rules, symbol: str) -> Iterator[tuple[str, float]]:
    """Every derivation of a symbol without recursion, on its first side."""
    total = sum(p.weight for p in rules[symbol])
    for weight, sides in rules[symbol]:
        names = re.findall(r"\{([^}]*)\}", sides[0])
        for chosen in product(*(list(strings(rules, name.partition("#")[0])) for name in names)):
            text, probability = sides[0], weight / total
            for name, (words, chance) in zip(names, chosen, strict=True):
                text, probability = text.replace(f"{{{name}}}", words, 1), probability * chance
            yield text, probability


def entropy(rules: Rules, symbol: str) -> float:
    """Nats per derivation: of the choice, and of all that it leads to."""
    total = sum(p.weight for p in rules[symbol])
    return sum(
        weight
        / total
        * (-math.log(weight / total) + sum(entropy(rules, child) for child in children(sides[0])))
        for weight, sides in rules[symbol]
    )


def children(text: str) -> list[str]:
    return [name.partition("#")[0] for name in re.findall(r"\{([^}]*)\}", text)]


def story_rows(tmp_path: Path, **sizes: int) -> dict[str, list[dict[str, object]]]:
    toy_story.write(tmp_path, Config(seed=3, sizes=sizes))
    return {
        split: tables.read(tmp_path / f"{split}.parquet", tables.RAW_TEXT).to_pylist()
        for split in sizes
    }


@cache
def story_sentences(rows: int) -> list[toy_story.Sentence]:
    return list(islice(toy_story.stories(Random(11)), rows))


@pytest.fixture(scope="module")
def raw_pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """toy_en_fr as the project's own params.yaml asks for it."""
    raw, builtin = (
        tmp_path_factory.mktemp("pairs"),
        config.section(ROOT / "params.yaml", "corpora.toy_en_fr.source.builtin"),
    )
    toy_en_fr.write(raw, Config(seed=builtin["seed"], sizes=builtin["sizes"]))
    return raw


@pytest.fixture(scope="module")
def pairs(raw_pairs: Path) -> dict[str, list[tuple[str, str]]]:
    """(English, French) by split."""
    sides = {path: path.read_text(encoding="utf-8").splitlines() for path in raw_pairs.glob("*.??")}
    return {
        s: list(zip(sides[raw_pairs / f"{s}.en"], sides[raw_pairs / f"{s}.fr"], strict=True))
        for s in toy_en_fr.SPLITS
    }


Pairs = dict[str, list[tuple[str, str]]]


@cache
def pair_chart() -> Chart:
    return Chart(pair_rules())


# --- the engine


def test_a_drawn_log_probability_is_the_product_of_the_choices() -> None:
    rules = Rules()
    rules.add("S", 3, "{A} {A#2}")
    rules.add("S", 1, "c")
    rules.words("A", 1, "a b")
    drawn = {Grammar(rules).draw("S", Random(seed)) for seed in range(200)}
    assert {text: round(math.exp(log_prob), 12) for (text,), log_prob in drawn} == {
        "c": 0.25,
        **{f"{x} {y}": 0.1875 for x in "ab" for y in "ab"},
    }


def test_both_sides_of_a_production_share_each_symbol_in_any_order() -> None:
    rules = Rules()
    rules.add("NP", 1, "{A} {N}", "{N} {A}")
    rules.add("A", 1, "white", "blanc")
    rules.add("N", 1, "cat", "chat")
    assert Grammar(rules).draw("NP", Random(0)).texts == ("white cat", "chat blanc")


def test_symbol_without_rule_is_refused_at_construction() -> None:
    rules = Rules()
    rules.add("S", 1, "{Nothing}")
    with pytest.raises(AssertionError, match="Nothing"):
        Grammar(rules)


@pytest.mark.parametrize("name", ["toy_en_fr", "toy_reviewers", "toy_reviews", "toy_story"])
@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (
            {"tset": 5},
            r"^here\.sizes\.tset: got an unknown split; expected one of train, valid, test",
        ),
        ({"test": 0}, r"^here\.sizes\.test: got 0"),
    ],
)
def test_unknown_or_empty_splits_are_refused(
    name: str, sizes: dict[str, int], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        load_grammar({"grammar": name, "seed": 1, "sizes": sizes}, "here")


# --- toy_story


def test_story_probability_matches_an_independent_parser() -> None:
    chart, hero = Chart(toy_story.rules()), ""
    for number, sentence in enumerate(story_sentences(250)):
        if sentence.text.startswith("once"):
            hero = re.findall(r"(\w+) lived", sentence.text)[0]
            history = math.log(toy_story.PARAGRAPH_END if number else 1.0) - math.log(
                len(toy_story.heroes())
            )
            ways = chart.derivations(f"Opening {hero}", sentence.text)
        else:
            history = math.log(1 - toy_story.PARAGRAPH_END)
            ways = chart.derivations(f"Sentence {hero}", sentence.text)
        assert len(ways) == 1, f"{sentence.text}: {len(ways)} derivations"
        assert sentence.log_prob == pytest.approx(history + math.log(ways[0][0]), abs=1e-9)


@pytest.mark.parametrize(
    "symbol", ["Thing castle", "Light pl sea", "Act own sg farm he", "Opening king", "Be"]
)
def test_probabilities_of_distinct_strings_sum_to_one(symbol: str) -> None:
    rules = toy_story.rules()
    if symbol == "Be":  # all that a farm's predicate can be but for acts
        rules["Be"] = [p for p in rules["Predicate own sg farm he"] if "Act" not in p.texts[0]]
    found = list(strings(rules, symbol))
    assert len({text for text, _ in found}) == len(found)
    assert math.fsum(probability for _, probability in found) == pytest.approx(1.0, abs=1e-9)


def test_the_mean_surprise_of_stories_is_their_analytic_entropy() -> None:
    rules, cast, end = toy_story.rules(), toy_story.heroes(), toy_story.PARAGRAPH_END
    opening = sum(entropy(rules, f"Opening {hero}") for hero in cast) / len(cast) + math.log(
        len(cast)
    )
    later = sum(entropy(rules, f"Sentence {hero}") for hero in cast) / len(cast)
    boundary = -end * math.log(end) - (1 - end) * math.log(1 - end)
    # a sentence opens a paragraph with probability `end`
    rate = end * opening + (1 - end) * later + boundary
    surprise = [-sentence.log_prob for sentence in story_sentences(10000)[1:]]
    mean = math.fsum(surprise) / len(surprise)
    deviation = math.sqrt(math.fsum((s - mean) ** 2 for s in surprise)) / len(surprise)
    assert abs(mean - rate) < 5 * deviation


def test_a_paragraph_keeps_its_topic_its_hero_and_the_heros_gender() -> None:
    classes = toy_story.word_classes()
    for paragraph, sentences in paragraphs(story_sentences(5000)):
        opening, *later = sentences
        hero = re.findall(r"^once upon a time .*?(\w+) lived in", opening)[0]
        topic, gender = classes[hero].split()
        words = [word for text in sentences for word in text.split()]
        topics = {classes[word].split()[0] for word in words} & set(toy_story.TOPICS)
        assert topics == {topic}, paragraph
        assert not {"he": {"she"}, "she": {"he", "him", "his"}}[gender] & set(words)
        assert not any(text.startswith("once") for text in later)
        assert {word for word in words if classes[word].split()[-1] in ("he", "she")} == {hero}


def paragraphs(sentences: list[toy_story.Sentence]) -> Iterator[tuple[int, list[str]]]:
    found: dict[int, list[str]] = {}
    for sentence in sentences:
        found.setdefault(sentence.paragraph, []).append(sentence.text)
    return iter(found.items())


def test_verbs_agree_with_heads_that_stand_before_a_relative_clause() -> None:
    relative = 0
    for sentence in story_sentences(5000):
        if not sentence.text.startswith(("once", "do")):
            for clause in re.split(r" (?:,|because|\.) ?|^when ", sentence.text):
                check_agreement(clause)
                relative += " that " in clause
    assert relative > 500


def check_agreement(clause: str) -> None:
    """Subjects wait on a stack for their verbs; a noun after a transitive verb is its object, if no
    gap has taken it."""
    classes, waiting = toy_story.word_classes(), list[str]()
    previous, object_due = "", False
    for word in clause.split():
        kind, number = classes[word].split()[-2:] if " " in classes[word] else (classes[word], "sg")
        if kind == "being" or word in ("he", "she") or number in ("he", "she"):
            if not object_due:
                waiting.append(number if kind == "being" else "sg")
            object_due = False
        elif classes[word].endswith("thing"):
            object_due = False
        elif kind in ("transitive", "intransitive", "be"):
            expected = waiting[-1] if previous == "that" else waiting.pop()
            assert {"is": "sg", "are": "pl"}.get(word, number) == expected, clause
            object_due = kind == "transitive" and (previous == "that" or not waiting)
        elif word in ("him", "her"):
            object_due = False
        previous = word
    assert not waiting, clause


def test_every_word_of_the_stories_has_one_class_and_none_is_missing() -> None:
    listed = [
        word for topic in toy_story.TOPICS.values() for words in topic for word in words.split()
    ]
    listed += [word for words in toy_story.COMMON.values() for word in words.split()]
    # a determiner of either number
    assert {word for word in listed if listed.count(word) > 1} == {"the"}
    assert {word for sentence in story_sentences(10000) for word in sentence.text.split()} == set(
        toy_story.word_classes()
    )


def test_the_floor_of_the_stories_leaves_something_to_learn() -> None:
    words = sum(len(sentence.text.split()) for sentence in story_sentences(10000))
    assert 5 < math.exp(-sum(sentence.log_prob for sentence in story_sentences(10000)) / words) < 10


def test_only_words_that_another_can_replace_have_a_class_for_judging() -> None:
    words = toy_story.exchangeable().to_pylist()
    classes = [row["class"] for row in words]
    assert {row["token"] for row in words} & set(toy_story.FUNCTION.split()) == set()
    assert min(classes.count(name) for name in classes) > 1
    assert {(row["token"], row["class"]) for row in words} < set(toy_story.word_classes().items())


def test_longer_corpus_extends_the_shorter_and_splits_are_independent(tmp_path: Path) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    small.mkdir()
    large.mkdir()
    few, many = story_rows(small, train=50), story_rows(large, test=40, train=90)
    assert many["train"][:50] == few["train"]
    assert many["test"][:40] != many["train"][:40]


def test_limits_are_the_summed_surprise_of_the_rows_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toy_story, "BATCH", 64)
    rows = story_rows(tmp_path, train=200, test=30)
    limits = json.loads((tmp_path / "limits.json").read_text())
    for split, found in rows.items():
        assert limits[split]["rows"] == len(found)
        assert limits[split]["nats"] == pytest.approx(
            -sum(float(str(row["log_prob"])) for row in found)
        )


def test_the_reader_yields_every_split_in_the_raw_schema(tmp_path: Path) -> None:
    rows = story_rows(tmp_path, train=200, valid=20, test=30)
    read: dict[str, list[pa.RecordBatch]] = {}
    for split, batch in stories_reader.read(
        tmp_path, config.load(stories_reader.Config, {}, "corpora.toy.read")
    ):
        assert batch.schema.equals(tables.RAW_TEXT)
        read.setdefault(split, []).append(batch)
    assert {
        split: pa.Table.from_batches(found).to_pylist() for split, found in read.items()
    } == rows
    assert all(row["reject"] is None for found in rows.values() for row in found)


def test_reading_a_folder_without_stories_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="parquet"):
        list(stories_reader.read(tmp_path, stories_reader.Config()))


# --- toy_en_fr


@pytest.mark.long
def test_the_same_english_always_has_the_same_french(pairs: Pairs) -> None:
    seen: dict[str, str] = {}
    grammar, random = Grammar(pair_rules()), Random(7)
    drawn = (
        grammar.draw(symbol, random).texts for symbol in ["Sentence"] * 25000 + ["Long"] * 5000
    )
    for source, target in chain(*pairs.values(), ((english(a), french(b)) for a, b in drawn)):
        assert seen.setdefault(source, target) == target
    assert len(set(seen.values())) > 0.8 * len(seen) > 30000


@pytest.mark.long
def test_every_derivation_of_an_english_sentence_gives_the_same_french(pairs: Pairs) -> None:
    for source, target in pairs["train"][:150] + pairs["test_long"][:10]:
        symbol = "Long" if len(source.split()) > 14 else "Sentence"
        assert {french(text) for _, text in pair_chart().derivations(symbol, source)} == {target}


PAIRS = """
the small cat sleeps . | le petit chat dort .
the old man loves the old woman . | le vieil homme aime la vieille femme .
the beautiful birds do not sing . | les beaux oiseaux ne chantent pas .
the owl is old . | le hibou est vieux .
the egg is not good . | l'œuf n'est pas bon .
the apples that the king chose are good . | les pommes que le roi a choisies sont bonnes .
the queen bought a new house , and she loves it . | la reine a acheté une nouvelle maison , et elle l'aime .
the boy bought some apples , and he did not hide them . | le garçon a acheté des pommes , et il ne les a pas cachées .
the king sees the queen , and he speaks to her . | le roi voit la reine , et il lui parle .
the girl sees the horse , but it is tired . | la fille voit le cheval , mais il est fatigué .
the mice sleep because they are tired . | les souris dorment parce qu'elles sont fatiguées .
the mouse that the cats see is white . | la souris que les chats voient est blanche .
the mouse that sees the cats is white . | la souris qui voit les chats est blanche .
the book of the children is new . | le livre des enfants est nouveau .
the book of the king is white . | le livre du roi est blanc .
the actress speaks to the children . | l'actrice parle aux enfants .
the actress answers the king . | l'actrice répond au roi .
does the bird sing ? | est-ce que l'oiseau chante ?
did an actress buy a hat ? | est-ce qu'une actrice a acheté un chapeau ?
where do the old women work ? | où est-ce que les vieilles femmes travaillent ?
what did the girl find ? | qu'est-ce que la fille a trouvé ?
what does the girl find ? | qu'est-ce que la fille trouve ?
who sees the bee ? | qui voit l'abeille ?
i do not love the owl . | je n'aime pas le hibou .
i found an egg . | j'ai trouvé un œuf .
we are tired . | nous sommes fatigués .
the queens arrived . | les reines sont arrivées .
the man did not leave . | l'homme n'est pas parti .
there is no tree in the garden . | il n'y a pas d'arbre dans le jardin .
the man does not see a tree . | l'homme ne voit pas d'arbre .
some small birds can not sing . | de petits oiseaux ne peuvent pas chanter .
this tree is as old as our house . | cet arbre est aussi vieux que notre maison .
the boys work in my old school . | les garçons travaillent dans ma vieille école .
the boys work in my school . | les garçons travaillent dans mon école .
the king wants to see the loyal horses . | le roi veut voir les chevaux loyaux .
the child says that i sing . | l'enfant dit que je chante .
"""  # noqa: E501


@pytest.mark.parametrize("line", PAIRS.strip().split("\n"))
def test_sentences_match_reference_translations(line: str) -> None:
    source, target = line.split(" | ")
    assert {french(text) for _, text in pair_chart().derivations("Sentence", source)} == {target}


def test_the_samples_of_the_project_have_the_french_of_the_grammar() -> None:
    for sample in config.section(ROOT / "params.yaml", "corpora.toy_en_fr.samples"):
        assert {
            french(text) for _, text in pair_chart().derivations("Sentence", sample["prompt"])
        } == {sample["reference"]}


def test_splits_share_no_sentence(pairs: Pairs) -> None:
    sources = {split: {source for source, _ in found} for split, found in pairs.items()}
    for one, other in combinations(sources, 2):
        assert not sources[one] & sources[other]


def test_test_long_is_longer_than_anything_in_train(pairs: Pairs) -> None:
    lengths = {
        split: [len(source.split()) for source, _ in found] for split, found in pairs.items()
    }
    assert max(lengths["train"]) <= 14 < 18 <= min(lengths["test_long"])


def test_the_vocabulary_is_closed_at_the_sizes_of_the_project(
    raw_pairs: Path, pairs: Pairs
) -> None:
    for language in ("en", "fr"):
        words = {split: vocabulary(raw_pairs / f"{split}.{language}") for split in pairs}
        assert {split: found - words["train"] for split, found in words.items()} == {
            split: set() for split in words
        }
    assert 120 <= len(vocabulary(raw_pairs / "train.en")) <= 200


def test_rows_and_limits_are_as_the_sizes_say(raw_pairs: Path, pairs: Pairs) -> None:
    sizes = config.section(ROOT / "params.yaml", "corpora.toy_en_fr.source.builtin.sizes")
    assert {split: len(found) for split, found in pairs.items()} == sizes
    assert json.loads((raw_pairs / "limits.json").read_text()) == {
        split: {"bleu": 100.0} for split in sizes
    }


def vocabulary(path: Path) -> set[str]:
    lines = pa.array(path.read_text(encoding="utf-8").splitlines())
    return set(tokens.split(lines, "word").flatten().to_pylist())


def test_french_elides_before_a_vowel_sound_and_nowhere_else(pairs: Pairs) -> None:
    vowel = "[aeiouéèêôœ]|h(?!iboux?)"
    hiatus = re.compile(rf"(?:^| )(?:le|la|de|ne|que|je|ce|ma|sa) (?:{vowel})")
    needless = re.compile(rf"(?:l|d|n|qu|j)'(?!{vowel}|y )")
    contracted = re.compile(r"(?:^| )(?:de|à) (?:le|les) ")
    unlinked = re.compile(r"(?:vieux|beau|nouveau) (?:homme|enfant|oiseau|arbre|œuf|hôtel) ")
    overlinked = re.compile(rf"(?:vieil|bel|nouvel) (?!{vowel})")
    for _, target in pairs["train"]:
        for wrong in (hiatus, needless, contracted, unlinked, overlinked):
            assert not wrong.search(target), target


MASCULINE = "garçon roi homme enfant chat oiseau cheval hibou livre chapeau arbre bateau œuf"
FEMININE = "fille reine femme actrice souris vache abeille pomme maison porte voiture image"
GENDERS = {
    noun: gender for gender, nouns in (("m", MASCULINE), ("f", FEMININE)) for noun in nouns.split()
}
GENDERS |= {noun + ending: gender for noun, gender in GENDERS.items() for ending in "sx"} | {
    "chevaux": "m"
}
ADJECTIVES = {  # masculine, feminine; then plurals
    "petit": "petits petite petites",
    "blanc": "blancs blanche blanches",
    "heureux": "heureux heureuse heureuses",
    "vieux": "vieux vieille vieilles",
    "loyal": "loyaux loyale loyales",
    "nouveau": "nouveaux nouvelle nouvelles",
}


def test_predicates_agree_with_a_subject_before_a_relative_clause(pairs: Pairs) -> None:
    feature: dict[str, set[str]] = {}
    for masculine, others in ADJECTIVES.items():
        for form, its in zip((masculine, *others.split()), ("ms", "mp", "fs", "fp"), strict=True):
            feature.setdefault(form, set()).add(its)
    checked = 0
    for _, target in pairs["train"]:
        words = [word for word in target.replace("'", "' ").split() if word != "pas"]
        more_clauses = {"qui", ",", "?", "dit", "pense", "quand", "parce", "aussi"} & set(words)
        relative = {"que", "qu'"} & set(words) and not more_clauses
        if relative and words[-3] in ("est", "sont", "était", "étaient") and words[-2] in feature:
            head = next((word for word in words if word in GENDERS), None)
            number = "p" if words[-3] in ("sont", "étaient") else "s"
            if head and words[0] in ("le", "la", "l'", "les"):
                assert GENDERS[head] + number in feature[words[-2]], target
                assert (words[0] == "les") == (number == "p"), target
                checked += 1
    assert checked > 50


def test_participles_agree_with_a_preceding_object(pairs: Pairs) -> None:
    noun, auxiliary = r"(les?|la|l') ?(?:\w+ )?(\w+) (?:\w+ )?", "(?:ai|a|avons|ont)"
    relative = re.compile(rf"^{noun}qu[e'](?: ?\w+){{1,2}}[ '](\w+) {auxiliary} \w+?(é|ée|és|ées) ")
    found = [
        (relative.match(target), target)
        for _, target in pairs["train"]
        if not re.search(" (dit|pense) qu", target)
    ]
    checked = [
        (match, target) for match, target in found if match and {match[2], match[3]} <= set(GENDERS)
    ]
    for match, target in checked:
        assert match[4] == "é" + "e" * (GENDERS[match[2]] == "f") + "s" * (match[1] == "les"), (
            target
        )
    assert len(checked) > 20


@pytest.mark.parametrize(
    "module", [toy_en_fr, toy_story, toy_reviews, toy_reviewers], ids=lambda module: module.__name__
)
def test_the_same_seed_writes_the_same_bytes_and_another_seed_others(
    module: Any, tmp_path: Path
) -> None:
    written = []
    for number, seed in enumerate((1, 1, 2)):
        raw = tmp_path / str(number)
        raw.mkdir()
        module.write(raw, Config(seed=seed, sizes={"train": 60, "test": 20}))
        written.append({file.name: file.read_bytes() for file in raw.rglob("*") if file.is_file()})
    first, again, other = written
    assert first == again
    assert all(
        first[name] != other[name]
        for name in first
        if name not in ("limits.json", "classes.parquet")
    )


@pytest.mark.parametrize(
    "rows",
    [
        toy_story.stories,
        lambda random: toy_en_fr.sentences("train", random),
        lambda random: toy_reviews.reviews("train", random),
        lambda random: toy_reviewers.reviewers("train", random),
    ],
)
def test_memory_does_not_grow_with_the_rows(rows: Callable[[Random], Iterator[object]]) -> None:
    stream = rows(Random(5))
    next(stream)
    tracemalloc.start()
    peaks = []
    for _ in range(3):
        tracemalloc.reset_peak()
        for _ in islice(stream, 400):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
    assert max(b - a for a, b in pairwise(peaks)) < 20_000
