"""By what names are compared."""


def key(name):
    """The same for two names that are the same to a reader."""
    return name.strip().lower()


def initials(name):
    return "".join(part[0].upper() for part in name.split())
