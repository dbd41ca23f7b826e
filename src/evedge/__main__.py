"""`python -m evedge` is `evedge`."""

from evedge.cli.main import run

if __name__ == "__main__":
    run()
