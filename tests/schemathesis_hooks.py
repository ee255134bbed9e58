"""What schemathesis has to be told of our media types. Loaded by it: see tests/test_schemathesis.py."""

from __future__ import annotations

import schemathesis

schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")
