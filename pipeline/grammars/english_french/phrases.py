"""Phrases: nouns with determiners and adjectives, verbs in every tense and polarity, relative
clauses."""

from collections.abc import Iterator
from typing import NamedTuple

from pipeline.grammars.english_french.lexicon import (
    DEFINITE,
    DIRECT,
    GENDERS,
    INDIRECT,
    SUBJECTS,
    gender_of,
)
from pipeline.grammars.grammar import Rules

# Sums of the weights of the affirmative and the negative frames (`_frames`).
ASSERTED = 16
DENIED = 7


def add_noun_phrases(rules: Rules, kind: str, gender: str) -> None:
    """Add `Definite`, `Plain` (definite or indefinite) and `Denied` (the object of a negated verb),
    with adjectives before and after the noun."""
    key = f"{kind} {gender}"
    noun = f"{{Noun {key}}}"
    before = f"{{Adjective before {key}}}"
    after = f"{{Adjective after {key}}}"

    # `Bare` begins with the noun in French, `Led` with an adjective.
    bare = f"{{Bare {key}}}"
    led = f"{{Led {key}}}"
    nominal = f"{{Nominal {key}}}"
    rules.both(f"Bare {key}", (3, noun))
    rules.add(f"Bare {key}", 1, f"{after} {noun}", f"{noun} {after}")
    rules.both(f"Led {key}", (3, f"{before} {noun}"))
    rules.add(f"Led {key}", 1, f"{before} {after} {noun}", f"{before} {noun} {after}")
    rules.both(f"Nominal {key}", (5, bare), (3, led))

    for i, pair in enumerate(DEFINITE[gender].split()):
        english, word = pair.split(":")
        rules.add(
            f"Definite {key}", 10 if i == 0 else 1, f"{english} {nominal}", f"{word} {nominal}"
        )
    rules.both(f"Plain {key}", (5, f"{{Definite {key}}}"))
    rules.both(f"Denied {key}", (5, f"{{Definite {key}}}"))

    # The indefinite article is `de` under negation, and `de` for `des` before an adjective.
    if gender[1] == "s":
        rules.add(
            f"Plain {key}", 2, f"a/an {nominal}", f"{'un' if gender == 'ms' else 'une'} {nominal}"
        )
        rules.add(f"Denied {key}", 2, f"a/an {nominal}", f"de/d' {nominal}")
    else:
        rules.add_all(
            f"Plain {key}",
            (1.25, f"some {bare}", f"des {bare}"),
            (0.75, f"some {led}", f"de/d' {led}"),
        )
        rules.add(f"Denied {key}", 2, f"any {nominal}", f"de/d' {nominal}")

    if kind == "place":
        rules.add("Place", 1, f"in {{Definite {key}}}", f"dans {{Definite {key}}}")


def add_verb_phrases(rules: Rules, subject: str) -> None:
    """Add `Act`, with an object; `Rest`, intransitive; `Gap`, without the object, for a relative
    clause; and `Clitic`, with a pronoun as object."""
    s = subject
    for verb in ("any", "deal", "to"):
        _conjugate(rules, f"Does {verb} {s}", f"Denies {verb} {s}", verb, s)

    for verb in ("any", "deal"):
        thing = "one" if verb == "any" else "thing"
        rules.both(
            f"Act {verb} {s}",
            (ASSERTED, f"{{Does {verb} {s}}} {{Any {thing}}}"),
            (DENIED, f"{{Denies {verb} {s}}} {{Any denied {thing}}}"),
        )
        for object_ in GENDERS:
            gap = f"Gap {verb} {s} {object_}"
            _conjugate(rules, gap, gap, verb, s, "", object_)
            clitic = f"Clitic {verb} {s} {object_}"
            _conjugate(rules, clitic, clitic, verb, s, DIRECT[object_] + " ", object_)

    # Verbs with `à` take an indirect pronoun, with which the participle does not agree.
    for object_ in GENDERS:
        clitic = f"Clitic to {s} {object_}"
        _conjugate(rules, clitic, clitic, "to", s, INDIRECT[object_] + " ")
    rules.both(
        f"Act to {s}",
        (ASSERTED, f"{{Does to {s}}} {{Recipient}}"),
        (DENIED, f"{{Denies to {s}}} {{Recipient}}"),
    )

    for verb in ("alone", "move"):
        _conjugate(rules, f"Rest {s}", f"Rest {s}", verb, s)
    for kind in ("person", "animal", "thing"):
        if kind == "person" or s in GENDERS:
            _predicates(rules, kind, s)


def _predicates(rules: Rules, kind: str, subject: str) -> None:
    """Add `Be`, `Brief` (without another noun) and `VP` for subjects of a kind."""
    s = subject
    quality = f"{{Predicate {kind} {gender_of(subject)}}}"
    be, was, _, _, _, etre, etait, _, _ = SUBJECTS[subject]
    state = f"Be {kind} {s}"
    rules.add_all(
        state,
        (6, f"{be} {quality}", f"{etre} {quality}"),
        (2, f"{be} not {quality}", f"ne/n' {etre} pas {quality}"),
        (2, f"{was} {quality}", f"{etait} {quality}"),
        (1, f"{was} not {quality}", f"ne/n' {etait} pas {quality}"),
    )

    phrase = f"VP {kind} {s}"
    brief = f"Brief {kind} {s}"
    rules.both(brief, (1, f"{{{state}}}"))
    rules.both(phrase, (3, f"{{{state}}}"))
    for gender in GENDERS:
        than = f"{{Plain {kind} {gender}}}"
        rules.add(
            phrase, 0.2, f"{be} as {quality} as {than}", f"{etre} aussi {quality} que/qu' {than}"
        )
    if kind == "thing":
        return

    rules.both(brief, (1, f"{{Rest {s}}}"))
    rules.both(
        phrase,
        (2, f"{{Rest {s}}}"),
        (1, f"{{Rest {s}}} {{Place}}"),
        (6, f"{{Act any {s}}}"),
    )
    if kind == "person":
        rules.both(phrase, (3, f"{{Act deal {s}}}"), (1.5, f"{{Act to {s}}}"))


def add_relative_clauses(rules: Rules, kind: str, gender: str) -> None:
    """Add `NP`: a plain noun phrase, one with an owner, or one with a relative clause."""
    key = f"{kind} {gender}"
    who = "who" if kind == "person" else "that"
    phrase = f"NP {key}"
    plain = f"{{Plain {key}}}"

    # Subject relative clauses, then object relative clauses, whose participle agrees.
    rules.both(phrase, (12, plain))
    rules.add(phrase, 2, f"{plain} {who} {{VP {key}}}", f"{plain} qui {{VP {key}}}")
    for subject in SUBJECTS:
        if subject in GENDERS:
            agents = [
                (f"{{Plain person {subject}#2}}",) * 2,
                (f"{{Plain animal {subject}#2}}",) * 2,
            ]
            weight = 0.3
        else:
            agents = [("i", "je/j'") if subject == "1s" else ("we", "nous")]
            weight = 0.2
        for english, word in agents:
            verbs = "any" if kind != "thing" or "animal" in english else "deal"
            gap = f"{{Gap {verbs} {subject} {gender}}}"
            rules.add(
                phrase, weight, f"{plain} that {english} {gap}", f"{plain} que/qu' {word} {gap}"
            )

    if kind != "person":
        for owner in GENDERS:
            nominal = f"{{Nominal {key}}} of {{Definite person {owner}}}"
            word = {"ms": "le/l'", "fs": "la/l'"}.get(gender, "les")
            rules.add(phrase, 0.4, f"the {nominal}", f"{word} {nominal.replace(' of ', ' de ')}")


class Frame(NamedTuple):
    """A tense and polarity: templates of both sides with VERB and its form, and with CLITIC for an
    object pronoun."""

    weight: float
    english: str
    english_form: str
    french: str
    french_form: str
    denies: bool


def _frames(subject: str, move: bool, agreement: str) -> Iterator[Frame]:
    """Iterate over all frames of a subject.

    `move` verbs take être and agree with the subject; others take avoir and agree with a preceding
    object (`agreement`)."""
    _, _, do, want, avoir, etre, _, pouvoir, vouloir = SUBJECTS[subject]
    present = "third" if subject in ("ms", "fs") else "base"
    auxiliary = etre if move else avoir
    past = f"pp {gender_of(subject) if move else agreement}"

    yield Frame(8, "VERB", present, "CLITIC VERB", subject, False)
    yield Frame(1, "often VERB", present, "CLITIC VERB souvent", subject, False)
    yield Frame(3, f"{do} not VERB", "base", "ne/n' CLITIC VERB pas", subject, True)
    yield Frame(1, "never VERB", present, "ne/n' CLITIC VERB jamais", subject, True)
    yield Frame(5, "VERB", "past", f"CLITIC {auxiliary} VERB", past, False)
    yield Frame(2, "did not VERB", "base", f"ne/n' CLITIC {auxiliary} pas VERB", past, True)
    yield Frame(1, "can VERB", "base", f"{pouvoir} CLITIC VERB", "inf", False)
    yield Frame(1, "can not VERB", "base", f"ne/n' {pouvoir} pas CLITIC VERB", "inf", True)
    yield Frame(1, f"{want} to VERB", "base", f"{vouloir} CLITIC VERB", "inf", False)


def _conjugate(
    rules: Rules,
    symbol: str,
    denied: str,
    verb: str,
    subject: str,
    clitic: str = "",
    agreement: str = "ms",
) -> None:
    """Add a verb of the kind `verb` in every frame, as `symbol`, or as `denied` for negative
    frames."""
    for frame in _frames(subject, verb == "move", agreement):
        slot = f"{{Verb {verb} {frame.english_form} {frame.french_form}}}"
        rules.add(
            denied if frame.denies else symbol,
            frame.weight,
            frame.english.replace("VERB", slot),
            frame.french.replace("VERB", slot).replace("CLITIC ", clitic),
        )
