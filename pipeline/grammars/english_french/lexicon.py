"""The words of the translation grammar: English and French forms of nouns, adjectives, verbs,
determiners and pronouns.

Features are parts of symbols' names: gender and number `ms fs mp fp`, as a subject also `1s 1p` (I
and we)."""

from pipeline.grammars.grammar import Rules

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
thing f picture pictures image images
place m garden gardens jardin jardins
place m hotel hotels hôtel hôtels
place f school schools école écoles
place f city cities ville villes
"""

# side of the noun, classes it fits, English, masculin, féminin, masculin pluriel (féminin pluriel
# is féminin + s)
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

# kind, English base (with _ for a blank), third person, past; French infinitive, je, nous, il, ils,
# participle `any`: all do it to all; `deal`: persons do it to things; `to`: with `à`; `alone` with
# avoir, `move` with être
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

# the subject's person or gender and number: English be, was, do, want; French avoir, être,
# imparfait, pouvoir, vouloir
SUBJECTS = {
    "1s": ["am", "was", "do", "want", "ai", "suis", "étais", "peux", "veux"],
    "1p": ["are", "were", "do", "want", "avons", "sommes", "étions", "pouvons", "voulons"],
    "ms": ["is", "was", "does", "wants", "a", "est", "était", "peut", "veut"],
    "fs": ["is", "was", "does", "wants", "a", "est", "était", "peut", "veut"],
    "mp": ["are", "were", "do", "want", "ont", "sont", "étaient", "peuvent", "veulent"],
    "fp": ["are", "were", "do", "want", "ont", "sont", "étaient", "peuvent", "veulent"],
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


def add_words(rules: Rules) -> None:
    """Add `Noun`, `Adjective`, `Predicate` and `Verb` in every form; a verb's symbol names its form
    on both sides."""
    for line in NOUNS.split("\n")[1:-1]:
        kind, gender, singular, plural, singulier, pluriel = line.split()
        rules.add(f"Noun {kind} {gender}s", 1, singular, singulier)
        rules.add(f"Noun {kind} {gender}p", 1, plural, pluriel)

    for line in ADJECTIVES.split("\n")[1:-1]:
        side, kinds, english, *forms = line.split()
        for gender, form in zip(("ms", "fs", "mp", "fp"), [*forms, forms[1] + "s"], strict=True):
            for kind in kinds.split(","):
                rules.add(f"Adjective {side} {kind} {gender}", 1, english, form)
                # A predicate never precedes a noun: it has no form before a vowel.
                rules.add(f"Predicate {kind} {gender}", 1, english, form.partition("/")[0])

    for line in VERBS.split("\n")[1:-1]:
        kind, base, third, past, infinitive, je, nous, il, ils, participle = line.split()
        french_forms = {
            "inf": infinitive,
            "1s": je,
            "1p": nous,
            "ms": il,
            "fs": il,
            "mp": ils,
            "fp": ils,
        }
        for gender in GENDERS:
            # pris is the same in the plural; prise takes an s.
            is_plural = gender[1] == "p" and not (gender == "mp" and participle.endswith("s"))
            ending = ("e" if gender[0] == "f" else "") + ("s" if is_plural else "")
            french_forms[f"pp {gender}"] = participle + ending
        for english_form, english in (("base", base), ("third", third), ("past", past)):
            for french_form, word in french_forms.items():
                rules.add(
                    f"Verb {kind} {english_form} {french_form}", 1, english.replace("_", " "), word
                )


def gender_of(subject: str) -> str:
    """Gender and number of a subject's predicate; masculine for I and we."""
    return SAID_OF_I_AND_WE.get(subject, subject)


def english_pronoun(kind: str, gender: str) -> str:
    """Subject pronoun for a noun of this kind: he, she, it or they."""
    if gender[1] == "p":
        return "they"
    return {"ms": "he", "fs": "she"}[gender] if kind == "person" else "it"
