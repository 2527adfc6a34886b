"""Parts of web addresses out of titles."""

from slugs.text import slugify
from slugs.unique import unique

__all__ = ["slugify", "unique"]
