"""`python -m llem` is `llem`."""

from llem.cli import main

if __name__ == "__main__":
    main()
