"""Put one table of settings over another."""


def merged(below, above):
    """A table with all keys of both; tables are merged, and for anything else what is above wins."""
    result = dict(below)
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result
