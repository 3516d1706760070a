"""`python -m serve.web` serves the page without the API."""

import sys

from serve.command import main

if __name__ == "__main__":
    sys.exit(main(api=False))
