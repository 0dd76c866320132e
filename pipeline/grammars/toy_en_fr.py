"""English sentences and their French, drawn together: the French is a function of the English string, so BLEU 100 is in reach.

The grammar is synchronous (one tree, two sides) and its symbols carry features as parts of their names: gender and number
`ms mp fs fp`, person `1s 1p` besides, and the form of a verb on either side. The French side is written with alternations
(`beau/bel`, `le/l'`, `ne/n'`): the second form stands before a vowel sound, and joins the next word if it ends in an
apostrophe; then `de le` becomes `du`, and so on.

What hurts: determiners, adjectives, participles and predicates agree with a noun that may stand before a relative clause; an
object that precedes `avoir` changes the participle (`les pommes que le roi a choisies`); `it` is `le`, `la`, `il` or `elle`
by its antecedent; adjectives stand on either side; `a` becomes `de` under negation, `some` before an adjective.

Natural French is written (`l'eau est froide .`). The vocabulary stays closed if words are cut after an elision's apostrophe.

No sentence of one split stands in another: a hash of the English sentence says which split it may enter, and each split
draws until it has its rows, in constant memory. Sentences of `test_long` are longer than those of all other splits, and are
built from the same productions.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import NamedTuple

from pipeline.grammars.grammar import Grammar, Rules, check_sizes
from pipeline.seeding import derive

SPLITS = ("train", "valid", "test", "test_long")
BUCKETS = {"train": range(6), "valid": range(6, 7), "test": range(7, 8)}  # of 8: where a sentence's hash may fall
LENGTHS = {"test_long": (18, 32)}  # words and marks of the English sentence, least and most
SHORT = (2, 14)  # the same for every other split

GENDERS = ("ms", "fs", "mp", "fp")

# class gender singular plural singulier pluriel
NOUNS = """
person m boy boys garçon garçons
person f girl girls fille filles
person m king kings roi rois
person f queen queens reine reines
person m man men homme hommes
person f woman women femme femmes
person m child children enfant enfants
person f actress actresses actrice actrices
animal m cat cats chat chats
animal m bird birds oiseau oiseaux
animal m horse horses cheval chevaux
animal m owl owls hibou hiboux
animal f mouse mice souris souris
animal f cow cows vache vaches
animal f bee bees abeille abeilles
thing m book books livre livres
thing m hat hats chapeau chapeaux
thing m tree trees arbre arbres
thing m boat boats bateau bateaux
thing m egg eggs œuf œufs
thing f apple apples pomme pommes
thing f house houses maison maisons
thing f door doors porte portes
thing f car cars voiture voitures
thing f star stars étoile étoiles
place m garden gardens jardin jardins
place m hotel hotels hôtel hôtels
place f school schools école écoles
place f city cities ville villes
"""

# side of the noun, classes it fits, English, masculin, féminin, masculin pluriel (féminin pluriel is féminin + s)
ADJECTIVES = """
before person,animal,thing,place small petit petite petits
before person,animal,thing,place big grand grande grands
before person,animal,thing,place beautiful beau/bel belle beaux
before person,animal,thing,place old vieux/vieil vieille vieux
before thing,place new nouveau/nouvel nouvelle nouveaux
before person,animal young jeune jeune jeunes
before thing,animal good bon bonne bons
after animal,thing white blanc blanche blancs
after animal,thing green vert verte verts
after animal,thing black noir noire noirs
after thing,place expensive cher chère chers
after person,animal happy heureux heureuse heureux
after person,animal tired fatigué fatiguée fatigués
after person,animal jealous jaloux jalouse jaloux
after person,animal loyal loyal loyale loyaux
"""

# kind, English base (with _ for a blank), third person, past; French infinitive, je, nous, il, ils, participle
# `any`: all do it to all; `deal`: persons do it to things; `to`: with `à`; `alone` with avoir, `move` with être
VERBS = """
any see sees saw voir vois voyons voit voient vu
any love loves loved aimer aime aimons aime aiment aimé
any listen_to listens_to listened_to écouter écoute écoutons écoute écoutent écouté
any look_for looks_for looked_for chercher cherche cherchons cherche cherchent cherché
any find finds found trouver trouve trouvons trouve trouvent trouvé
any hide hides hid cacher cache cachons cache cachent caché
deal buy buys bought acheter achète achetons achète achètent acheté
deal open opens opened ouvrir ouvre ouvrons ouvre ouvrent ouvert
deal take takes took prendre prends prenons prend prennent pris
deal paint paints painted peindre peins peignons peint peignent peint
deal choose chooses chose choisir choisis choisissons choisit choisissent choisi
to speak_to speaks_to spoke_to parler parle parlons parle parlent parlé
to answer answers answered répondre réponds répondons répond répondent répondu
alone sleep sleeps slept dormir dors dormons dort dorment dormi
alone sing sings sang chanter chante chantons chante chantent chanté
alone work works worked travailler travaille travaillons travaille travaillent travaillé
alone laugh laughs laughed rire ris rions rit rient ri
move arrive arrives arrived arriver arrive arrivons arrive arrivent arrivé
move leave leaves left partir pars partons part partent parti
move fall falls fell tomber tombe tombons tombe tombent tombé
move come comes came venir viens venons vient viennent venu
"""

# the subject's person or gender and number: English be, was, do, want; French avoir, être, imparfait, pouvoir, vouloir
SUBJECTS = {
    "1s": "am was do want ai suis étais peux veux".split(),
    "1p": "are were do want avons sommes étions pouvons voulons".split(),
    "ms": "is was does wants a est était peut veut".split(),
    "fs": "is was does wants a est était peut veut".split(),
    "mp": "are were do want ont sont étaient peuvent veulent".split(),
    "fp": "are were do want ont sont étaient peuvent veulent".split(),
}
SAID_OF_I_AND_WE = {"1s": "ms", "1p": "mp"}  # the gender a predicate takes
DEFINITE = {
    "ms": "the:le/l' this:ce/cet my:mon his:son her:son our:notre",
    "fs": "the:la/l' this:cette my:ma/mon his:sa/son her:sa/son our:notre",
    "mp": "the:les these:ces my:mes his:ses her:ses our:nos",
    "fp": "the:les these:ces my:mes his:ses her:ses our:nos",
}
PRONOUNS = {"ms": "il", "fs": "elle", "mp": "ils", "fp": "elles"}
DIRECT = {"ms": "le/l'", "fs": "la/l'", "mp": "les", "fp": "les"}
INDIRECT = {"ms": "lui", "fs": "lui", "mp": "leur", "fp": "leur"}
ASPIRATED = {"hibou", "hiboux"}
CONTRACTIONS = {("de", "le"): "du", ("de", "les"): "des", ("à", "le"): "au", ("à", "les"): "aux"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`source.builtin` without `grammar`: `sizes` says how many sentences each split has."""

    seed: int
    sizes: dict[str, int]

    def __post_init__(self) -> None:
        check_sizes(self.sizes, SPLITS)


def write(raw: Path, config: Config) -> None:
    """Write `<split>.en`, `<split>.fr` (UTF-8, a sentence per line) and `limits.json` into the folder `raw`."""
    for split, rows in config.sizes.items():
        pairs = islice(sentences(split, Random(derive(config.seed, f"toy_en_fr/{split}"))), rows)
        with (
            (raw / f"{split}.en").open("w", encoding="utf-8", newline="\n") as english,
            (raw / f"{split}.fr").open("w", encoding="utf-8", newline="\n") as french,
        ):
            for source, target in pairs:
                english.write(source + "\n")
                french.write(target + "\n")
    limits = {split: {"bleu": 100.0} for split in config.sizes}
    (raw / "limits.json").write_text(json.dumps(limits, indent=2) + "\n", encoding="utf-8")


def sentences(split: str, random: Random) -> Iterator[tuple[str, str]]:
    """(English, French) without end, all of them sentences that may stand in `split`."""
    grammar = Grammar(rules())
    least, most = LENGTHS.get(split, SHORT)
    symbol = "Long" if split in LENGTHS else "Sentence"
    while True:
        (source, target), _ = grammar.draw(symbol, random)
        words = source.split()
        if least <= len(words) <= most:
            english = " ".join(spoken(words, _starts_with_english_vowel))
            if split not in BUCKETS or _bucket(english) in BUCKETS[split]:
                yield english, french(target)


def french(written: str) -> str:
    """The French side as it is spelt: alternations chosen, elided words joined, prepositions contracted."""
    words = spoken(written.split(), _starts_with_french_vowel)
    text: list[str] = []
    for word in words:
        if text and (text[-1], word) in CONTRACTIONS:
            text[-1] = CONTRACTIONS[text[-1], word]
        elif text and text[-1].endswith("'"):
            text[-1] += word
        else:
            text.append(word)
    return " ".join(text)


def spoken(words: list[str], vowel: Callable[[str], bool]) -> list[str]:
    """The words with each alternation `plain/before_vowel` decided by the word after it, from the last word back."""
    chosen: list[str] = []
    for word in reversed(words):
        plain, _, before_vowel = word.partition("/")
        chosen.append(before_vowel if before_vowel and chosen and vowel(chosen[-1]) else plain)
    return chosen[::-1]


def _starts_with_french_vowel(word: str) -> bool:
    return word[0] in "aàâeéèêiîoôœuûyh" and word not in ASPIRATED


def _starts_with_english_vowel(word: str) -> bool:
    return word[0] in "aeiou"


def _bucket(english: str) -> int:
    return hashlib.blake2b(english.encode(), digest_size=1).digest()[0] % 8


def rules() -> Rules:
    """The whole grammar: `Sentence` for every split but `test_long`, which is drawn from `Long`."""
    made = Rules()
    _lexicon(made)
    for kind in ("person", "animal", "thing", "place"):
        for gender in GENDERS if kind != "place" else ("ms", "fs"):
            _noun_phrases(made, kind, gender)
    for kind in ("person", "animal", "thing"):
        for gender in GENDERS:
            _relative_clauses(made, kind, gender)
            made.add(f"Any {kind}", 1, f"{{NP {kind} {gender}}}", f"{{NP {kind} {gender}}}")
            made.add(f"Any denied {kind}", 1, f"{{Denied {kind} {gender}}}", f"{{Denied {kind} {gender}}}")
    for prefix in ("", "denied "):
        for kind, weight in (("person", 2), ("animal", 2), ("thing", 3)):
            _same(made, f"Any {prefix}one", weight, f"{{Any {prefix}{kind}}}")
    for subject in SUBJECTS:
        _verb_phrases(made, subject)
    _clauses(made)
    _links(made)
    _questions(made)
    _sentences(made)
    return made


def _same(made: Rules, symbol: str, weight: float, text: str) -> None:
    """A production whose two sides read alike."""
    made.add(symbol, weight, text, text)


def _lexicon(made: Rules) -> None:
    for line in NOUNS.split("\n")[1:-1]:
        kind, gender, singular, plural, singulier, pluriel = line.split()
        made.add(f"Noun {kind} {gender}s", 1, singular, singulier)
        made.add(f"Noun {kind} {gender}p", 1, plural, pluriel)
    for line in ADJECTIVES.split("\n")[1:-1]:
        side, kinds, english, *forms = line.split()
        for gender, form in zip(("ms", "fs", "mp", "fp"), [*forms, forms[1] + "s"], strict=True):
            for kind in kinds.split(","):
                made.add(f"Adjective {side} {kind} {gender}", 1, english, form)
                made.add(f"Predicate {kind} {gender}", 1, english, form.partition("/")[0])
    for line in VERBS.split("\n")[1:-1]:
        kind, base, third, past, infinitive, je, nous, il, ils, participle = line.split()
        french_forms = {"inf": infinitive, "1s": je, "1p": nous, "ms": il, "fs": il, "mp": ils, "fp": ils}
        french_forms |= {f"pp {gender}": _participle(participle, gender) for gender in GENDERS}
        for english_form, english in (("base", base), ("third", third), ("past", past)):
            for french_form, word in french_forms.items():
                made.add(f"Verb {kind} {english_form} {french_form}", 1, english.replace("_", " "), word)


def _participle(masculine: str, gender: str) -> str:
    plural = "s" if gender[1] == "p" and not (gender == "mp" and masculine.endswith("s")) else ""
    return masculine + ("e" if gender[0] == "f" else "") + plural


def _noun_phrases(made: Rules, kind: str, gender: str) -> None:
    """`Definite`, `Plain` (or indefinite), `Denied` (the object of a negated verb), each with adjectives on either side."""
    noun, key = f"{{Noun {kind} {gender}}}", f"{kind} {gender}"
    before, after = f"{{Adjective before {key}}}", f"{{Adjective after {key}}}"
    bare, led, nominal = f"Bare {key}", f"Led {key}", f"{{Nominal {key}}}"
    _same(made, bare, 3, noun)
    made.add(bare, 1, f"{after} {noun}", f"{noun} {after}")
    _same(made, led, 3, f"{before} {noun}")
    made.add(led, 1, f"{before} {after} {noun}", f"{before} {noun} {after}")
    _same(made, f"Nominal {key}", 5, f"{{{bare}}}")
    _same(made, f"Nominal {key}", 3, f"{{{led}}}")
    for i, pair in enumerate(DEFINITE[gender].split()):
        english, word = pair.split(":")
        made.add(f"Definite {key}", 10 if i == 0 else 1, f"{english} {nominal}", f"{word} {nominal}")
    _same(made, f"Plain {key}", 5, f"{{Definite {key}}}")
    _same(made, f"Denied {key}", 5, f"{{Definite {key}}}")
    if gender[1] == "s":
        made.add(f"Plain {key}", 2, f"a/an {nominal}", f"{'un' if gender == 'ms' else 'une'} {nominal}")
        made.add(f"Denied {key}", 2, f"a/an {nominal}", f"de/d' {nominal}")
    else:
        made.add(f"Plain {key}", 1.25, f"some {{{bare}}}", f"des {{{bare}}}")
        made.add(f"Plain {key}", 0.75, f"some {{{led}}}", f"de/d' {{{led}}}")
        made.add(f"Denied {key}", 2, f"any {nominal}", f"de/d' {nominal}")
    if kind == "place":
        made.add("Place", 1, f"in {{Definite {key}}}", f"dans {{Definite {key}}}")
