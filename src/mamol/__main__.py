"""`python -m mamol` is the command line; torchrun needs a module to start."""

from mamol.cli.main import run

run()
