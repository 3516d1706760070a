"""The page without the API."""

import sys

from serve.api.app import main

if __name__ == "__main__":
    sys.exit(main(api=False))
