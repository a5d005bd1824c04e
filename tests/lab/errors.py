"""What can go wrong in the lab itself, as against in what is tested on it."""


class LabError(Exception):
    """The lab could not do what it was asked for; the message says what to do about it."""
