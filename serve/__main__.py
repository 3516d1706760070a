"""`python -m serve` serves the page and the API, as `videollm serve` does."""

import sys

from serve.command import main

if __name__ == "__main__":
    sys.exit(main())
