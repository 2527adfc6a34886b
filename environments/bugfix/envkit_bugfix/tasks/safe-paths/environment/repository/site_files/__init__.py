"""Files of a site, by their URL."""

from site_files.site import Forbidden, Site

__all__ = ["Forbidden", "Site"]
