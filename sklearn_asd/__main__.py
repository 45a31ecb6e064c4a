"""``python -m sklearn_asd`` is ``sklearn-asd``."""

from sklearn_asd._cli import main

if __name__ == "__main__":
    main()
