#!/bin/sh
set -e
cat >/app/quotes/remember.py <<'END'
"""Remember what a method returned, for each object and its arguments."""

import functools
import inspect


def remember(method):
    """The method, called once for each set of arguments; `forget` on the object drops what it knows."""
    signature = inspect.signature(method)

    @functools.wraps(method)
    def remembered(self, *args, **kwargs):
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        key = (method.__name__, bound.args[1:], tuple(sorted(bound.kwargs.items())))
        known = self.__dict__.setdefault("_known", {})
        if key not in known:
            known[key] = method(self, *args, **kwargs)
        return known[key]

    return remembered
END
