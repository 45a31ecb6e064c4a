"""Model files as someone with a text editor sees them: to be read, changed, written."""

import hashlib
import json
import re
from pathlib import Path

from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as dump_tensors

__all__ = ["read", "write"]


def read(path):
    """Content and arrays of a file."""
    data = Path(path).read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return json.loads(header["__metadata__"]["sklearn_asd"]), load_tensors(data)


def write(path, content, tensors):
    """Write a file with the digest of what is in it, as whoever wants to harm would."""
    text = content if isinstance(content, str) else json.dumps(content)
    data = dump_tensors(tensors, metadata={"sklearn_asd": text})
    found = re.search(r'"digest\\": \\"([0-9a-f]{64})', data.decode(errors="replace"))
    if found:
        old = found[1].encode()
        digest = hashlib.blake2b(data.replace(old, b"0" * 64, 1), digest_size=32)
        data = data.replace(old, digest.hexdigest().encode(), 1)
    path.write_bytes(data)
