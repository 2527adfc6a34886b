"""Slugs of which no two are the same."""


def unique(slugs):
    """The slugs, with "-2" after the second that is the same, "-3" after the third, and so on."""
    counts = {}
    for slug in slugs:
        counts[slug] = counts.get(slug, 0) + 1
        yield slug if counts[slug] == 1 else f"{slug}-{counts[slug]}"
