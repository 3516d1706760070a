"""`python -m serve` serves the page and the API, as `videollm serve` does."""

import sys

from videollm.extras import explain_missing


def main() -> int:
    try:
        from serve import command  # needs the extra `serve`
    except ModuleNotFoundError as error:
        if (message := explain_missing(error)) is None:
            raise
        print(f"videollm: {message}", file=sys.stderr)
        return 2
    return command.main()


if __name__ == "__main__":
    sys.exit(main())
