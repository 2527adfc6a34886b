"""Slugs of which no two are the same."""


def unique(slugs):
    """The slugs, with "-2" after the second that is the same, "-3" after the third, and so on."""
    seen, counts = set(), {}
    for slug in slugs:
        number = counts.get(slug, 0) + 1
        chosen = slug if number == 1 else f"{slug}-{number}"
        while chosen in seen:
            number += 1
            chosen = f"{slug}-{number}"
        counts[slug] = number
        seen.add(chosen)
        yield chosen
