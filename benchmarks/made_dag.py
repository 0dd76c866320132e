"""A DVC project of twelve stages with the shape of the real one; its stages sleep and write bytes.

    download a, b -> tokenize a, b -> train p, q, r -> predict p, q, r -> pack, report

Every out is a function of its deps alone, so `dvc.lock` does not depend on the order of the stages.
"""

import subprocess
from pathlib import Path

STAGES = 12
_WORK = '''"""work.py OUT SECONDS MEGABYTES DEPS...: sleep, then write an out made from its deps."""
import hashlib, os, sys, time

out, seconds, megabytes, *deps = sys.argv[1:]
began = time.time()
print("at work on", out, flush=True)
digest = hashlib.sha256(out.encode())
for dep in deps:
    with open(dep, "rb") as file:
        digest.update(hashlib.file_digest(file, "sha256").digest())
time.sleep(float(seconds))
with open(out + ".partial", "wb") as file:
    for number in range(int(megabytes)):
        file.write(hashlib.sha256(digest.digest() + str(number).encode()).digest() * 32768)
    file.write(digest.hexdigest().encode())
os.replace(out + ".partial", out)
device = os.environ.get("CUDA_VISIBLE_DEVICES")
print("device", device, "from", began, "to", time.time(), flush=True)
'''
_DVC = """stages:
  download:
    foreach: [a, b]
    do:
      cmd: python work.py data/raw_${{item}} {seconds} 0
      deps: [work.py]
      outs: ["data/raw_${{item}}"]
  tokenize:
    foreach: [a, b]
    do:
      cmd: python work.py data/tokens_${{item}} {seconds} 0 data/raw_${{item}}
      deps: [work.py, "data/raw_${{item}}"]
      outs: ["data/tokens_${{item}}"]
  train:
    foreach: {{p: {{corpus: a}}, q: {{corpus: a}}, r: {{corpus: b}}}}
    do:
      cmd: python work.py data/model_${{key}} {seconds} 0 data/tokens_${{item.corpus}}
      deps: [work.py, "data/tokens_${{item.corpus}}"]
      outs: ["data/model_${{key}}"]
  predict:
    foreach: {{p: {{corpus: a}}, q: {{corpus: a}}, r: {{corpus: b}}}}
    do:
      cmd: >-
        python work.py data/answers_${{key}} {seconds} 0
        data/model_${{key}} data/tokens_${{item.corpus}}
      deps: [work.py, "data/model_${{key}}", "data/tokens_${{item.corpus}}"]
      outs: ["data/answers_${{key}}"]
  pack:
    cmd: python work.py data/pack {seconds} {megabytes} data/tokens_a data/tokens_b
    deps: [work.py, data/tokens_a, data/tokens_b]
    outs: [data/pack]
  report:
    cmd: python work.py data/report {seconds} 0 data/answers_p data/answers_q data/answers_r
    deps: [work.py, data/answers_p, data/answers_q, data/answers_r]
    outs: [data/report]
"""
_FILES = {
    "params.yaml": """\
compute: {device: cpu, slots: 2, processes: 1, workers: 1, cluster: null}
evaluation: {bootstrap: 20, confidence: 0.95, seed: 1, test: true}
""",
    "flow.yaml": "run: {dvc: patched, time_limits: {}, retries: 2, retry_seconds: 0.1}\n",
    "data/.gitignore": "/*\n!/.gitignore\n",
    ".gitignore": "/.seqline/\n*.partial\n",
    "presets/default.yaml": "# What makes a folder a project of seqline's.\n",
}


def make(root: Path, seconds: float, megabytes: int) -> Path:
    """Write and commit the project at `root`; `megabytes` is the size of one of its outs."""
    for name, text in {
        **_FILES,
        "work.py": _WORK,
        "dvc.yaml": _DVC.format(seconds=seconds, megabytes=megabytes),
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")

    git = ["git", "-c", "user.name=made", "-c", "user.email=made@example.org"]
    for command in (
        [*git, "init", "-q"],
        ["dvc", "init", "-q"],
        ["dvc", "config", "core.analytics", "false"],
        ["dvc", "config", "core.check_update", "false"],
        [*git, "add", "."],
        [*git, "commit", "-q", "-m", "start"],
    ):
        subprocess.run(command, cwd=root, check=True)
    return root
