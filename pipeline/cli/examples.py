"""Examples of every command, which its `--help` shows; a comment follows after two spaces."""

EXAMPLES: dict[str, tuple[str, ...]] = {
    "use": (
        "seqline use  # list the presets",
        "seqline use d2l",
        "seqline use default --seeds lstm=4  # a fourth seed of one setting",
        "seqline use multi30k --set 'settings.*.training.max_epochs=1'",
    ),
    "add": (
        "seqline add corpus reviews.csv  # look at the file, and write its block",
        "seqline add run text_cnn reviews  # a model of it, with three seeds",
        "seqline add model my_family  # a language model of your own, to be changed",
        "seqline add model my_family --task classification  # begin with a short classifier",
    ),
    "keep": ("seqline keep reviews  # your corpus alone: the built-in ones leave params.yaml",),
    "tidy": ("seqline tidy  # after `dvc exp run -S`",),
    "check": ("seqline check",),
    "check-model": ("seqline check-model my_family",),
    "claims": ("seqline claims", "seqline claims --update  # write the figures of a new report"),
    "prune": ("seqline prune",),
    "repair": ("seqline repair",),
    "doctor": ("seqline doctor", "seqline doctor --json"),
    "run": (
        "seqline run  # all stages that are not up to date",
        "seqline run --jobs 2",
        "seqline run train@lstm-1  # one stage, with all that it needs",
    ),
    "results": ("seqline results", "seqline results --json"),
    "compare": (
        "seqline compare attention transformer  # two settings, over their seeds",
        "seqline compare attention-1 transformer-1  # would the second run replace the first?",
    ),
    "retrain": ("seqline retrain",),
    "schedule": (
        "seqline schedule --cron '0 3 * * *'  # every night at three",
        "seqline schedule --on-data-change --every 10m",
    ),
    "status": ("seqline status", "seqline status --json"),
    "refresh": ("seqline refresh",),
    "sync": ("seqline sync",),
    "ui": ("seqline ui", "seqline ui --port 5001"),
    "promote": (
        "seqline promote transformer",
        "seqline promote translation-toy_en_fr 2 --why 'the newer one is slower'",
    ),
    "rollback": ("seqline rollback translation-toy_en_fr",),
    "champions": (
        "seqline champions --history",
        "seqline champions --of data/raw/toy_en_fr  # versions that were trained on these files",
    ),
    "serve": ("seqline serve translation-toy_en_fr",),
    "completion": (
        "source <(seqline completion bash)  # in ~/.bashrc, for every terminal",
        "seqline completion fish > ~/.config/fish/completions/seqline.fish",
    ),
    "classify": (
        'seqline classify "the plot was not good ."',
        "seqline classify --run birnn --file reviews.txt --json",
    ),
    "neighbours": (
        "seqline neighbours king",
        "seqline neighbours king --run skip_gram --count 3",
    ),
    "runs": (
        "seqline runs",
        "seqline runs --json",
    ),
    "analogy": (
        "seqline analogy king kings whale",
        "seqline analogy king kings whale --count 5",
    ),
    "fill": (
        'seqline fill "the whales near the harbour ___ the anchor ." --run bidirectional',
        'seqline fill "the plot was ___ ." --run bert --n-best 5',
    ),
    "translate": (
        'seqline translate "where do the birds sing ?"',
        "seqline translate < test.en | sacrebleu test.fr",
        "seqline translate --run attention --run transformer --file test.en -o test.out",
    ),
    "generate": (
        'seqline generate "once upon a time"',
        'seqline generate "the whales" --seed 7',
    ),
    "demo": ("seqline demo", "seqline demo --port 8000"),
}


def epilog(command: str) -> str:
    """Return the examples of a command as its help shows them."""
    return "\n".join(["examples:", *(f"  {example}" for example in EXAMPLES[command])])
