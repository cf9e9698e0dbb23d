"""How one config of a project is run: its script, its config, and what makes the run small."""

from dataclasses import dataclass
from pathlib import Path

YAML = """MODEL.DEVICE cpu MODEL.WEIGHTS '' SOLVER.IMS_PER_BATCH 2 SOLVER.MAX_ITER 2 SOLVER.STEPS ()
SOLVER.BASE_LR 0.0001 DATALOADER.NUM_WORKERS 0 TEST.EVAL_PERIOD 0 INPUT.MIN_SIZE_TRAIN (96,)
INPUT.MIN_SIZE_TEST 96 INPUT.MAX_SIZE_TRAIN 160 INPUT.MAX_SIZE_TEST 160 SEED 1"""
LAZY = """train.device=cpu train.max_iter=2 train.init_checkpoint='' train.eval_period=2
train.log_period=1 train.amp.enabled=False dataloader.train.total_batch_size=2
dataloader.train.num_workers=0 dataloader.test.num_workers=0 train.seed=1"""
SEVEN = "SOLVER.MAX_ITER 7"
"""Steps after which training loops that are written out (not a ``Trainer``) write metrics."""


@dataclass(frozen=True)
class Case:
    """One config of one project.

    Attributes:
        name: of the result's row.
        project: path of the project's clone, below the folder of all.
        script: its training script; below the project.
        config: below the project.
        options: overrides, words separated by spaces.
        path: more folders of the clones to import from.
        evaluates: whether results of an evaluation are expected.
        beside_data: run where the folder ``datasets`` is, for projects that look for it there.
        served: run a copy of the script, away from the project, whose package retinue serves then.
        flags: of the script, before the overrides; after ``--eval-only`` no loss is expected.
        before: Python to run first, for what a project can't do on today's libraries by itself.
        refusal: what the error must say, where the right answer is one.
    """

    name: str
    project: str
    script: str
    config: str
    options: str = ""
    path: tuple[str, ...] = ()
    evaluates: bool = True
    beside_data: bool = False
    served: bool = False
    flags: str = ""
    before: str = ""
    refusal: str = ""

    def words(self, project: Path, output: Path) -> list[str]:
        """Return the command line after the interpreter."""
        lazy = self.config.endswith(".py")
        output_key = "train.output_dir=" if lazy else "OUTPUT_DIR "
        text = " ".join((LAZY if lazy else YAML).split())
        words = f"{text} {self.options} {output_key}{output}".split()
        words = [w.replace("''", "") for w in words]
        script = str((output if self.served else project) / self.script)
        config = str(project / self.config)
        runner = ["-m", "retinue.compat"]
        if self.before:
            run = "import sys; from retinue.compat import run_program; run_program(sys.argv[1:])"
            runner = ["-c", f"{self.before}; {run}"]
        return [*runner, script, "--config-file", config, *self.flags.split(), *words]
