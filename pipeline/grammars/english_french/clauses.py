"""Clauses and sentences: clauses linked by a pronoun, questions, coordination; and the whole
grammar."""

from pipeline.grammars.english_french.lexicon import (
    GENDERS,
    PRONOUNS,
    SUBJECTS,
    add_words,
    english_pronoun,
)
from pipeline.grammars.english_french.phrases import (
    add_noun_phrases,
    add_relative_clauses,
    add_verb_phrases,
)
from pipeline.grammars.grammar import Rules


def rules() -> Rules:
    """Build the grammar: `Long` for the split `test_long`, `Sentence` for all others."""
    rules = Rules()
    add_words(rules)

    for kind in ("person", "animal", "thing", "place"):
        for gender in GENDERS if kind != "place" else ("ms", "fs"):
            add_noun_phrases(rules, kind, gender)

    for kind in ("person", "animal", "thing"):
        for gender in GENDERS:
            add_relative_clauses(rules, kind, gender)
            rules.both(f"Any {kind}", (1, f"{{NP {kind} {gender}}}"))
            rules.both(f"Any denied {kind}", (1, f"{{Denied {kind} {gender}}}"))
    for gender in GENDERS:
        recipient = f"{{Definite person {gender}}}"
        rules.add("Recipient", 1, recipient, f"à {recipient}")
    for prefix in ("", "denied "):
        rules.both(
            f"Any {prefix}one",
            (2, f"{{Any {prefix}person}}"),
            (2, f"{{Any {prefix}animal}}"),
            (3, f"{{Any {prefix}thing}}"),
        )

    for subject in SUBJECTS:
        add_verb_phrases(rules, subject)

    _clauses(rules)
    _links(rules)
    _questions(rules)
    _sentences(rules)
    return rules


def _clauses(rules: Rules) -> None:
    """Add `Clause`: a subject and its verb phrase."""
    for kind, weight in (("person", 5), ("animal", 3), ("thing", 1.5)):
        for gender in GENDERS:
            rules.both("Clause", (weight, f"{{NP {kind} {gender}}} {{VP {kind} {gender}}}"))
    rules.add_all(
        "Clause",
        (6, "i {VP person 1s}", "je/j' {VP person 1s}"),
        (5, "we {VP person 1p}", "nous {VP person 1p}"),
    )


def _links(rules: Rules) -> None:
    """Add `Linked`: two clauses, linked by a pronoun whose antecedent is unambiguous.

    A pronoun subject refers to the first clause's subject if that clause has no object. After an
    object, `he`, `she` and `they` refer to the subject and `it`, `him`, `her` and `them` to the
    object.
    """
    for gender, il in PRONOUNS.items():
        for kind in ("person", "animal"):
            pronoun = english_pronoun(kind, gender)
            for english, word in (
                ("because", "parce que/qu'"),
                ("when", "quand"),
                (", but", ", mais"),
            ):
                start = f"{{NP {kind} {gender}}} {{Brief {kind} {gender}#1}}"
                rules.add(
                    "Linked",
                    0.7,
                    f"{start} {english} {pronoun} {{Brief {kind} {gender}#2}}",
                    f"{start} {word} {il} {{Brief {kind} {gender}#2}}",
                )

        for object_ in GENDERS:
            _object_links(rules, gender, object_)


def _object_links(rules: Rules, subject: str, object_: str) -> None:
    """Add links by an object pronoun, which the French side places before the verb."""
    he = english_pronoun("person", subject)
    il = PRONOUNS[subject]
    for kind in ("animal", "thing"):
        verbs = "any" if kind == "animal" else "deal"
        start = f"{{NP person {subject}}} {{Does {verbs} {subject}}} {{Plain {kind} {object_}}}"
        it = "it" if object_[1] == "s" else "them"
        for verb in ("any", "deal")[: 1 + (kind == "thing")]:
            again = f"{{Clitic {verb} {subject} {object_}}}"
            rules.add(
                "Linked", 0.5, f"{start} , and {he} {again} {it}", f"{start} , et {il} {again}"
            )

        # `they` would be ambiguous: the subject or the object.
        if it == "it":
            be = f"{{Be {kind} {object_}}}"
            rules.add(
                "Linked", 0.5, f"{start} , but it {be}", f"{start} , mais {PRONOUNS[object_]} {be}"
            )

    # Persons of different gender, so that `him` and `her` are the object.
    if {subject, object_} == {"ms", "fs"}:
        start = f"{{NP person {subject}}} {{Does any {subject}}} {{Plain person {object_}}}"
        him = {"ms": "him", "fs": "her"}[object_]
        for verb in ("any", "to"):
            again = f"{{Clitic {verb} {subject} {object_}}}"
            rules.add(
                "Linked", 1, f"{start} , and {he} {again} {him}", f"{start} , et {il} {again}"
            )


def _questions(rules: Rules) -> None:
    """Add `Question`: yes/no and wh-questions, in French mostly with `est-ce que`."""
    for kind, weight in (("person", 3), ("animal", 2), ("thing", 1)):
        for gender in GENDERS:
            _question_clauses(rules, kind, gender, weight, f"{{Plain {kind} {gender}}}")
    for english, word in (("", ""), ("where ", "où "), ("why ", "pourquoi "), ("when ", "quand ")):
        rules.add(
            "Question",
            1 if english else 0.3,
            f"{english}{{Asked}}",
            f"{word}est-ce que/qu' {{Asked}}",
        )

    for gender in GENDERS:
        for kind in ("person", "animal"):
            who = f"{{Plain {kind} {gender}}}"
            do = SUBJECTS[gender][2]
            avoir = SUBJECTS[gender][4]
            verb = f"{{Verb any base {gender}}}"
            participle = "{Verb any base pp ms}"
            rules.add_all(
                "Question",
                (0.03, f"what {do} {who} {verb}", f"qu'est-ce que/qu' {who} {verb}"),
                (
                    0.02,
                    f"what did {who} {participle}",
                    f"qu'est-ce que/qu' {who} {avoir} {participle}",
                ),
            )
    rules.add("Question", 0.3, "who {VP person ms}", "qui {VP person ms}")


def _question_clauses(rules: Rules, kind: str, gender: str, weight: float, who: str) -> None:
    """Add `Asked`: English with an auxiliary before the subject, French in the usual order."""
    be, was, do, _, avoir, etre, etait, pouvoir, _ = SUBJECTS[gender]
    quality = f"{{Predicate {kind} {gender}}}"
    rules.add_all(
        "Asked",
        (weight, f"{be} {who} {quality}", f"{who} {etre} {quality}"),
        (weight / 2, f"{was} {who} {quality}", f"{who} {etait} {quality}"),
    )
    if kind == "thing":
        return

    verbs = [("any", " {Any one}"), ("alone", ""), ("move", "")]
    for verb, rest in [*verbs, ("deal", " {Any thing}")] if kind == "person" else verbs:
        participle = gender if verb == "move" else "ms"
        auxiliary = etre if verb == "move" else avoir
        base = f"{{Verb {verb} base "
        rules.add_all(
            "Asked",
            (weight, f"{do} {who} {base}{gender}}}{rest}", f"{who} {base}{gender}}}{rest}"),
            (
                weight / 2,
                f"did {who} {base}pp {participle}}}{rest}",
                f"{who} {auxiliary} {base}pp {participle}}}{rest}",
            ),
            (
                weight / 4,
                f"can {who} {base}inf}}{rest}",
                f"{who} {pouvoir} {base}inf}}{rest}",
            ),
        )


def _sentences(rules: Rules) -> None:
    """Add `Sentence`, and `Long` of at least two parts."""
    rules.both("Part", (6, "{Clause}"), (5, "{Linked}"))
    rules.add("Part", 0.8, "when {Clause#1} , {Clause#2}", "quand {Clause#1} , {Clause#2}")
    for gender in GENDERS[:2]:
        who = f"{{Definite person {gender}}}"
        rules.add_all(
            "Part",
            (0.3, f"{who} says that {{Clause}}", f"{who} dit que/qu' {{Clause}}"),
            (0.3, f"{who} thinks that {{Clause}}", f"{who} pense que/qu' {{Clause}}"),
        )
    for kind in ("person", "animal", "thing"):
        for gender in GENDERS:
            _existence(rules, kind, gender)

    rules.both("Joined", (10, "{Part}"))
    for english, word in (("and", "et"), ("but", "mais")):
        rules.add(
            "Joined", 1.5, f"{{Part}} , {english} {{Joined}}", f"{{Part}} , {word} {{Joined}}"
        )
        rules.add(
            "Long", 1, f"{{Part}} , {english} {{Joined}} .", f"{{Part}} , {word} {{Joined}} ."
        )
    rules.both("Sentence", (8, "{Joined} ."), (1.4, "{Question} ?"))


def _existence(rules: Rules, kind: str, gender: str) -> None:
    """Add `there is` and `there are no`: French `il y a`, with `de` under negation."""
    nominal = f"{{Nominal {kind} {gender}}} {{Place}}"
    if gender[1] == "s":
        un = "un" if gender == "ms" else "une"
        rules.add_all(
            "Part",
            (0.06, f"there is a/an {nominal}", f"il y a {un} {nominal}"),
            (0.03, f"there is no {nominal}", f"il ne/n' y a pas de/d' {nominal}"),
        )
    else:
        rules.add("Part", 0.03, f"there are no {nominal}", f"il ne/n' y a pas de/d' {nominal}")
