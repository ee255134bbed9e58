"""The speech models: which there are, which are on this box, and how the others get here.

`catalogue` is the allow-list (names, pinned revisions, sizes), `library` what lies in the data folder,
`downloads` the way from one to the other, which runs in a child process (`python -m tasks.models NAME`) that
`fetching` starts.

No path and no repository id ever comes from a request: a request names a model, and `find` either knows
the name or refuses. Cheap to import (no torch, no huggingface_hub): the web process uses it too.
"""

from tasks.models.catalogue import ALIGNERS, CATALOGUE, LANGUAGES, Aligner, Model
from tasks.models.downloads import download
from tasks.models.fetching import fetch
from tasks.models.library import (
    BY_SIZE,
    DEMO_FOLDER,
    NLTK_DATA,
    SAMPLE,
    aligner,
    aligner_bytes,
    available,
    closed,
    find,
    folder,
    place,
    ready,
    sentence_splitters,
)

__all__ = [
    "ALIGNERS",
    "BY_SIZE",
    "CATALOGUE",
    "DEMO_FOLDER",
    "LANGUAGES",
    "NLTK_DATA",
    "SAMPLE",
    "Aligner",
    "Model",
    "aligner",
    "aligner_bytes",
    "available",
    "closed",
    "download",
    "fetch",
    "find",
    "folder",
    "place",
    "ready",
    "sentence_splitters",
]
