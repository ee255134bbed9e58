"""Links: what a stranger's URL holds, and its sound on this disk. yt-dlp does both, in a child behind `egress`."""

from tasks.links.about import link_name
from tasks.links.faults import ADVICE, Fault
from tasks.links.parent import MOST_ITEMS, Fetched, Item, Preview, Progress, Terms, fetch, look

__all__ = [
    "ADVICE",
    "MOST_ITEMS",
    "Fault",
    "Fetched",
    "Item",
    "Preview",
    "Progress",
    "Terms",
    "fetch",
    "link_name",
    "look",
]
