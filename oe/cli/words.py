"""Numbers as people say them."""


def duration(seconds: float) -> str:
    """Seconds as people say them: the two largest units, such as 2h05m or 0s."""
    whole = int(seconds)
    for unit, name, smaller, below in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= unit:
            return f"{whole // unit}{name}{whole % unit // smaller:02}{below}"
    return f"{whole}s"


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
