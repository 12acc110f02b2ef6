"""BadInput: the error for what the user can mend. Commands print it as one line and exit with 2."""


class BadInput(ValueError):
    """Input, configuration or file that medseg refuses, told in one line.

    The message says what came, what was expected and the way out. Commands print it without a
    traceback; every other exception is a defect of medseg and keeps its traceback.
    """
